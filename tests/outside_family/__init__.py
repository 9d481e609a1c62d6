"""A package outside nascli: it adds plain chains of three convolutions. And its tests."""
