"""Replies to answers."""
