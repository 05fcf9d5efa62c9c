"""Rows, and the files that keep them."""
