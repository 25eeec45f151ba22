"""Many runs of one recipe: the grid, its folder, its table of results."""
