"""The network: layers, losses, backbones. Importing a module registers what stands in it."""
