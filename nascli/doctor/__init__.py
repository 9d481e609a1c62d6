"""What nascli finds on this machine, and advice where something is short: `nascli doctor`."""
