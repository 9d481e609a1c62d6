"""The family of cells whose ops stand on edges between four nodes, as in NAS-Bench-201."""
