"""Train a network: ``python stemseg/training/main.py --cfg CONFIG``, or with ``torchrun``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import the package of this clone, not what lies beside this file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from stemseg.training.arguments import configuration, parse_arguments
from stemseg.utils.arguments import run_command
from stemseg.utils.errors import EXPECTED_ERRORS, log_failure

_logger = logging.getLogger("stemseg.training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_arguments(arguments)
    if options.show_config:
        return run_command(lambda: print(configuration(options).to_yaml(), end=""))

    from tqdm.contrib.logging import logging_redirect_tqdm  # here, so that --help answers at once

    from stemseg.training.interrupts import InterruptListener
    from stemseg.training.run import train
    from stemseg.utils import distributed

    logging.basicConfig(level="ERROR", format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", force=True)
    try:
        if distributed.is_main():
            logging.getLogger().setLevel(options.log_level.upper())
        with logging_redirect_tqdm(), InterruptListener() as interrupts:
            return train(options, interrupts)
    except EXPECTED_ERRORS as error:
        log_failure(_logger, error)
        return 1
    finally:
        distributed.shutdown()


if __name__ == "__main__":
    sys.exit(main())
