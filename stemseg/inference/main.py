"""Segment videos: ``python stemseg/inference/main.py CHECKPOINT --dataset NAME``, or ``--input VIDEOS``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import the package of this clone, not what lies beside this file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from stemseg.inference.arguments import parse_arguments
from stemseg.utils.errors import EXPECTED_ERRORS, log_failure

_logger = logging.getLogger("stemseg.inference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_arguments(arguments)

    from stemseg.inference.run import segment  # here, so that --help answers at once
    from stemseg.utils import distributed

    logging.basicConfig(level="ERROR", format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", force=True)
    try:
        if distributed.is_main():
            logging.getLogger().setLevel("INFO")
        return segment(options)
    except EXPECTED_ERRORS as error:
        log_failure(_logger, error)
        return 1
    except KeyboardInterrupt:
        _logger.warning("interrupted; finished sequences are kept, the same command goes on")
        return 130
    finally:
        distributed.shutdown()


if __name__ == "__main__":
    sys.exit(main())
