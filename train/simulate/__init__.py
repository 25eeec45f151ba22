"""What a way to read costs, and how well it mixes, reckoned from metadata before anything is trained."""
