"""EgoSchema, and everything in its file layout."""
