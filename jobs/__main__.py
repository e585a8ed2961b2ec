"""`python -m jobs`: the command line of a working directory that was sent to a cluster."""

from jobs.cli import main

main()
