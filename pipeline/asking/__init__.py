"""Pages and questions to requests with exact tokens."""
