"""The family of cells whose ops stand on edges, as in NAS-Bench-201."""
