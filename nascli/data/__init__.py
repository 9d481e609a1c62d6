"""Data sets: images with classes in memory or streamed, images with boxes, and what may be wrong with them."""
