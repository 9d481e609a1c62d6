"""Pages and tables made from run folders."""
