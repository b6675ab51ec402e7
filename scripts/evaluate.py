"""Measure results from a clone: the command ``stemseg-evaluate``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

from stemseg.evaluation.main import main

if __name__ == "__main__":
    sys.exit(main())
