"""What holds on this machine's GPU: the checks of make gpu-check, their table, and the page that they end with."""
