"""Grid: the grid file, its axes, and the cells it comes to."""
