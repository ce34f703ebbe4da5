"""The tools, each a script and a subcommand of paddleseg-encnet. pip installs this folder as paddleseg_encnet_tools."""
