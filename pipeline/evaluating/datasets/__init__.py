"""Public sets of questions about images: read from their Parquet files, a row at a time."""
