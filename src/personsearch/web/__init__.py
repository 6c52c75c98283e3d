"""The page and the REST API."""
