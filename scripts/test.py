"""Make the environment, check style and types and run every test: ``python scripts/test.py [pytest arguments]``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from environment import ROOT, enter_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and test, giving pytest the ``arguments``; returns the first exit code that is not 0."""
    enter_environment()
    given = sys.argv[1:] if arguments is None else arguments
    # tiny tensors: threads inside torch only get in each other's way, so the processes share the cores instead
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    checks = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],  # over the package, as pyproject.toml says
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            str(min(4, os.cpu_count() or 1)),
            *given,
        ],
    ]
    for command in checks:
        print("+", " ".join(command), flush=True)
        status = subprocess.call(command, cwd=ROOT, env=environment)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
