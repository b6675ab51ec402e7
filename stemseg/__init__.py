"""Hierarchical-embedding video instance segmentation: segment and track every object of a video in one pass.

import stemseg
result = stemseg.load("laptop").segment("holiday.mp4")
result.save("out")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stemseg.api import Result, Segmenter, Stream, load

__version__ = "1.0.0"
__all__ = ["Result", "Segmenter", "Stream", "load"]


def __getattr__(name: str) -> Any:
    """The public interface, imported where it is first used: ``import stemseg`` alone takes no time."""
    if name in __all__:
        return getattr(importlib.import_module("stemseg.api"), name)
    raise AttributeError(f"module 'stemseg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
