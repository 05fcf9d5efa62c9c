"""Files to page images, text and sizes."""
