"""Folders and tables of labeled images, in the layouts that people give them."""
