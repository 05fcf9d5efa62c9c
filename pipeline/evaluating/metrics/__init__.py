"""Metrics: each a function of one answer and what is known to be right."""
