"""Folders that tests read from."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN_DIR = ROOT / "tests" / "golden"
SHARED_DIR = ROOT.parent / "shared"  # beside the checkout; not in the repository, so tests skip without it
