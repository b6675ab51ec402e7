"""Tests of stemseg; a package so that tests, benchmarks and worker processes share its helpers."""
