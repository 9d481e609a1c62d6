"""Pictures of cells: rows (ordering), x along them (coordinates), boxes and curves (layout), shapes (scene)."""
