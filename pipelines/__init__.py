"""The batch side of Kindling: one module per stage, mathematics in `core`."""
