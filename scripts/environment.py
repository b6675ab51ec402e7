"""Make the project's own virtual environment and go on inside it (standard library only: nothing is installed yet)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ((3, 10), (3, 13))


def enter_environment(directory: Path = ROOT / ".venv") -> None:
    """Return inside the project's virtual environment; a process outside it is run again inside.

    The environment is made once: a stamp records what it was filled with, and only a change installs anew.
    Set ``STEMSEG_NO_VENV=1`` to use the running Python as it is, and ``STEMSEG_EXTRAS=dev,eval`` to install other of
    setup.py's extras than "dev".

    Raises:
        SystemExit: where this Python is not supported or the installation fails.
    """
    if os.environ.get("STEMSEG_NO_VENV"):
        return
    low, high = SUPPORTED
    if not low <= sys.version_info[:2] <= high:
        sys.exit(f"Python {sys.version.split()[0]} found; stemseg runs on {low[0]}.{low[1]} to {high[0]}.{high[1]}")
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if Path(sys.prefix).resolve() == directory.resolve():
        return
    if not _is_current(directory):
        _build(directory, python)
    # tools beside the interpreter (pytest, ruff, mypy) must be found as in an activated environment
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    sys.exit(subprocess.call([str(python), *sys.argv], env=environment))


def _build(directory: Path, python: Path) -> None:
    print(
        f"Making the virtual environment {directory} (once; about a minute, more where downloads are slow)", flush=True
    )
    try:
        venv.create(directory, with_pip=True)
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"could not make {directory}: {error}\nOn Debian and Ubuntu: apt install python3-venv, then run this again"
        )
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*install, "-r", str(ROOT / "requirements.txt"), "-e", f"{ROOT}[{_extras()}]"]
    if subprocess.call(command, cwd=ROOT) != 0:
        sys.exit(f"installation failed; the command was: {' '.join(command)}")
    (directory / "stemseg-stamp").write_text(_fingerprint(), encoding="ascii")


def _extras() -> str:
    return os.environ.get("STEMSEG_EXTRAS", "dev")


def _is_current(directory: Path) -> bool:
    stamp = directory / "stemseg-stamp"
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _fingerprint()


def _fingerprint() -> str:
    content = (ROOT / "requirements.txt").read_bytes() + (ROOT / "setup.py").read_bytes()
    content += sys.version.encode() + _extras().encode()
    return hashlib.sha256(content).hexdigest()
