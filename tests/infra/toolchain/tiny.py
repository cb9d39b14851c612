"""A tool of one line, a Go that is a shell script, and a program that resolves tools in a process of its own."""

import dataclasses as dc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.toolchain.catalogue import Tool

TINY = Tool(name="tiny", family="tiny", package=".", version="1.2.3", ldflags="-s -w -X main.version=1.2.3")
SMALL = dc.replace(TINY, name="small")
BOUND = 20.0

GO = """#!/bin/sh
# The verbs of Go that Kiban uses. `build` writes a program that says its version, once the gate is open.
echo "$$ $*" >> "$FAKE/calls"
case $1 in
env) echo "go${FAKE_VERSION:-1.26.9}"; exit ;;
build) ;;
*) exit 0 ;;
esac
while [ -n "$FAKE_GATE" ] && [ ! -e "$FAKE_GATE" ]; do sleep 0.02; done
if [ -n "$FAKE_FAILURE" ]; then printf '%b\\n' "$FAKE_FAILURE"; exit 1; fi
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho tiny version %s\\n' "${FAKE_BUILDS:-1.2.3}" > "$2" && chmod +x "$2"
"""

MAIN = """package main

import "os"

var version string

func main() { os.Stdout.WriteString("tiny " + version + "\\n") }
"""

DRIVER = """
import sys
from pathlib import Path
from infra import toolchain
from infra.errors import KibanError
from infra.toolchain import catalogue
from tests.infra.toolchain.tiny import SMALL, TINY
catalogue.MODULES = Path(sys.argv[1])
catalogue.TOOLS = {"tiny": TINY, "small": SMALL}
try:
    print(toolchain.resolve(*sys.argv[2:])[sys.argv[-1]])
except KibanError as error:
    print(error)
    sys.exit(error.exit_status)
"""


def write_program(path: Path, text: str) -> Path:
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_family(folder: Path) -> Path:
    """Write the pins and the source of a family that needs no module, and return its folder."""
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module kiban.dev/tools/tiny\n\ngo 1.26.0\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text(MAIN)
    return folder


def resolver(modules: Path, *names: str, environ: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    """Start a process that resolves tools of the tiny family and prints the last one's path."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(modules), *names],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, for a bounded time."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND} s: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
