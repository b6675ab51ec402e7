"""The first signal is a request, the second ends the process, and the old handlers come back."""

import os
import signal
import subprocess
import sys

from stemseg.training.interrupts import InterruptListener


def test_a_signal_becomes_a_request():
    before = signal.getsignal(signal.SIGTERM)
    with InterruptListener() as listener:
        assert not listener.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert listener.requested
        assert listener.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_signal_ends_the_process_at_once():
    script = (
        "import os, signal\n"
        "from stemseg.training.interrupts import InterruptListener\n"
        "with InterruptListener():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert result.returncode == 130
    assert "still here" not in result.stdout
