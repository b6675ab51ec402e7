"""Prepare a dataset from a clone: the command ``stemseg-prepare``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

from stemseg.data.prepare.main import main

if __name__ == "__main__":
    sys.exit(main())
