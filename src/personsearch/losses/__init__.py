"""One published loss a file, and the memories and triplets that losses read."""
