"""Finished runs, to look at."""
