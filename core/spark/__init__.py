"""Spark DataFrames: our own functions on executors, a table of Arrow at a time."""
