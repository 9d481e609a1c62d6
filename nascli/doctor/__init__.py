"""`nascli doctor`: a description of this machine, and advice where something is short."""
