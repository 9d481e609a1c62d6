"""The family of cells: a normal and a reduction cell of blocks."""
