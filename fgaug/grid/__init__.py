"""Grid: the grid file, its axes and the cells they expand to."""
