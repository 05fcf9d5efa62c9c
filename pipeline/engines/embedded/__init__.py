"""Answers from the text of the pages, without a model."""
