"""Draw framework.png, the README's overview of the method: ``python scripts/figure/main.py``.

Everything in it comes from our own description of the method and from the synthetic generator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone runs without being installed

from scripts.figure.layout import draw_framework

_DEFAULT_OUTPUT = Path(__file__).resolve().parents[2] / "framework.png"


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", "-o", type=Path, default=_DEFAULT_OUTPUT, help="PNG file to write")
    args = parser.parse_args(argv)
    draw_framework().save(args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
