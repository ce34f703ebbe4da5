"""A network behind HTTP: one page, one address that predicts, and limits on what strangers may ask of it."""
