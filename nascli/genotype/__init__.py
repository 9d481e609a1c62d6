"""Cells as values: schema, search spaces, decision sequences, canonical form, the zoo, drawings. No torch."""
