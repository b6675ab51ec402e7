"""Draw framework.png, the README's overview of the method: ``python scripts/draw_framework.py``.

Everything in it comes from our own description of the method and from the synthetic generator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

from scripts.framework.layout import draw_framework

_DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "framework.png"


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", "-o", type=Path, default=_DEFAULT_OUTPUT, help="PNG file to write")
    args = parser.parse_args(argv)
    draw_framework().save(args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
