"""Hierarchical-embedding video instance segmentation: segment and track every object of a video in one pass."""

__version__ = "1.0.0"
