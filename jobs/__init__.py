"""The command line and what is submitted to a cluster."""
