"""Read image files, and crop and resize them to the squares of a dataset."""
