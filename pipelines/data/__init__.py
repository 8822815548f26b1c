"""Data: read once, divided, encoded, cached, and assembled into batches."""
