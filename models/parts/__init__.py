"""What networks are made of: front-end, poolings, blocks."""
