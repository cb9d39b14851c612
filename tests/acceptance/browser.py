"""A real browser without a window, driven by its own protocol (CDP) over two pipes: nothing listens on a port."""

import base64
import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.console import say
from infra.system import packages
from infra.system.packages import Package

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_CHROMIUM = Package(name=_NAMES[0], programs=(_NAMES[0],), purpose="opening pages")
_FONTS = Package(
    name="fonts-dejavu-core",
    programs=("DejaVuSans.ttf",),
    purpose="text in pages",
    places=("/usr/share/fonts/truetype/dejavu",),
    data=True,
)
_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # as root it does not start with it; what it opens is the tests' own
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
)


def binary() -> Path:
    """The browser of this machine; where it has none, Debian's, installed by apt."""
    for name in _NAMES:
        if found := Package(name=name, programs=(name,), purpose="").found():
            return found
    packages.ensure((_CHROMIUM, _FONTS), by="a test of a page", say=say)
    found = _CHROMIUM.found()
    assert found
    return found


class Page:
    """A tab. said: what the console said. asked: every address that was asked for."""

    def __init__(self, commands: int, answers: int) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._commands = os.fdopen(commands, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Make the window so large; of a phone, with touch and a viewport as it has them."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def colours(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, file: Path) -> None:
        """Open a file and wait until all of it is there."""
        self._loaded = False
        self._call("Page.navigate", url=file.as_uri())
        while not self._loaded:
            self._next()

    def run(self, script: str) -> Any:  # noqa: ANN401 - what the script gives
        """What an expression gives in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """What is to be seen in the window, as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Leave the browser."""
        self._commands.close()
        self._answers.close()

    def _call(self, method: str, **params: Any) -> Any:  # noqa: ANN401
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": params, **session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        message: dict[str, Any] = json.loads(data)
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])
            case "Log.entryAdded":
                self.said.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.said.append(json.dumps(params))
        return message


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Page]:
    """A page of a browser that keeps what it keeps in that folder, and ends with the block."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs, ours)]
    for each in (theirs, ours):
        os.close(each)
    words = [str(binary()), *_OPTIONS, f"--user-data-dir={home}", "about:blank"]
    script = f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}'  # its numbers for the two
    with (home.parent / f"{home.name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=high
        )
    for each in high:
        os.close(each)
    page = Page(commands, answers)
    try:
        yield page
    finally:
        page.close()
        process.terminate()
        process.wait()
