"""Reading: image files as pixels, cropped and resized to the squares of a dataset."""
