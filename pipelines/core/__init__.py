"""The model, the tables and the files, with no knowledge of how work is distributed."""
