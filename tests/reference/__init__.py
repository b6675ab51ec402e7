"""Plain implementations of what the package computes fast: the yardstick of tests and benchmarks."""
