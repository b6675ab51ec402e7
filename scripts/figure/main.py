"""Draw framework.png, the README's overview of the method: ``python scripts/figure/main.py``.

Everything in it comes from our own description of the method and from the synthetic generator.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone runs without being installed

from PIL import Image

from scripts.figure.layout import draw_framework
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.files import write_file

_DEFAULT_OUTPUT = Path(__file__).resolve().parents[2] / "framework.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", "-o", type=Path, default=_DEFAULT_OUTPUT, help="PNG file to write")
    args = parser.parse_args(arguments)
    return run_command(lambda: draw(args.output))


def draw(output: Path) -> None:
    """Draw the figure."""
    write_picture(draw_framework().finish(), output)
    print(f"wrote {output}")


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG with 52 levels per channel: not seen, and half the file."""
    reduced = picture.point(lambda value: 5 * round(value / 5))
    write_file(path, lambda file: reduced.save(file, "PNG", optimize=True))


if __name__ == "__main__":
    sys.exit(main())
