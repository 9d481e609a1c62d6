"""Data sets: names to tensors in memory, streamed images, COCO-format detection data."""
