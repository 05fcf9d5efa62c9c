"""Batch document understanding: documents to pages to requests to answers to Parquet."""
