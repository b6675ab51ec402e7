"""The first signal is a request, the second ends the process, and the old handlers come back."""

import os
import signal
import subprocess
import sys

import pytest

from stemseg.training.interrupts import InterruptListener, children_unheard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_becomes_a_request(number):
    before = signal.signal(number, signal.SIG_DFL)  # tests may have been started under nohup, which ignores some
    try:
        with InterruptListener() as listener:
            assert not listener.requested
            os.kill(os.getpid(), number)
            assert listener.requested
            assert listener.exit_code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with InterruptListener() as listener:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not listener.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_do_not_interrupt_where_they_must_not():
    heard = []
    before = signal.signal(signal.SIGCHLD, lambda *_: heard.append(1))
    try:
        with children_unheard():
            os.kill(os.getpid(), signal.SIGCHLD)
        assert not heard
        os.kill(os.getpid(), signal.SIGCHLD)
        assert heard
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_second_signal_ends_the_process_at_once():
    script = (
        "import os, signal\n"
        "from stemseg.training.interrupts import InterruptListener\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "with InterruptListener():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert result.returncode == 130
    assert "still here" not in result.stdout
