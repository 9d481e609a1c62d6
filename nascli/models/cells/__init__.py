"""Networks of cells."""
