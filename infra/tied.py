"""A program whose life is tied to Kiban's: where Kiban is killed, the kernel signals it too (Linux only)."""

import os
import signal
import sys
from collections.abc import Sequence

# Run first in the new process: ask the kernel for the signal, then become the program.
_FIRST = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit(130)
os.execv(sys.argv[3], sys.argv[3:])
"""


def command(words: Sequence[str], *, dies_by: signal.Signals) -> list[str]:
    """What to start instead of the command, from the process that its life is tied to. dies_by: what it is sent."""
    return [sys.executable, "-ISc", _FIRST, str(os.getpid()), str(int(dies_by)), *words]
