"""A whole data set looked at, copied, converted, split."""
