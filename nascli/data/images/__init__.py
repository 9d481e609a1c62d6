"""Image files: which are there, and from their bytes to RGB pixels."""
