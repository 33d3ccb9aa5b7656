"""Reading raw files: images, masks, MATLAB files."""
