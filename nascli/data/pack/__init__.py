"""An image folder as one HDF5 file."""
