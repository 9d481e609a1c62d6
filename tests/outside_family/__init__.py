"""A package as somebody else may write it: it adds plain chains of three convolutions to nascli. And its tests."""
