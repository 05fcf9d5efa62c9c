"""The flow of one run: what is asked, sent, taken back and counted."""
