"""Public data sets and other people's tables, made into the tables that a build reads."""
