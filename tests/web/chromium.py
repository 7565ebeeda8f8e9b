"""A Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websocket import WebSocket, create_connection

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 120.0


def find() -> str | None:
    """The program, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of the browser.

    Attributes:
        complaints: what the page threw, logged as an error, or was refused by its policy.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        content = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(content["exceptionDetails"])[:2000])
        if message["method"] == "Log.entryAdded" and content["entry"]["level"] == "error":
            self.complaints.append(f"{content['entry']['text']} {content['entry'].get('url', '')}")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> Any:
        """The first value of an expression that counts as true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"never true: {condition}; {self.complaints}"
            time.sleep(0.05)
        return value

    def go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def colours(self, scheme: str) -> None:
        """The system's colours: light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def give(self, selector: str, *files: Path) -> None:
        """Chooses files in a field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, text: str = "") -> None:
        """A key of the keyboard, as ``Tab`` or ``a``."""
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, " ": 32}.get(key, 0)
        common = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def download_to(self, folder: Path) -> None:
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, path: Path, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def tab(program: str, profile: Path) -> Iterator[Tab]:
    """A browser of its own, with one page, ended with the block.

    Args:
        program: its path.
        profile: a folder for what it keeps.
    """
    words = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
    words += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--remote-allow-origins=*", "about:blank"]
    log = profile.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        port = _port(process, profile / "DevToolsActivePort", log)
        socket = create_connection(f"ws://127.0.0.1:{port[0]}{port[1]}", timeout=PATIENCE_S, suppress_origin=True)
        yield Tab(_attached(socket, port[0]))
        socket.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], file: Path, log: Path) -> tuple[str, str]:
    """Port and path of the browser's socket."""
    end = time.monotonic() + PATIENCE_S
    while not (file.exists() and len(lines := file.read_text().splitlines()) == 2):
        assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)
    return lines[0], lines[1]


def _attached(browser: WebSocket, port: str) -> WebSocket:
    """The socket of the one page that is open."""
    browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    while (message := json.loads(browser.recv())).get("id") != 1:
        pass
    page = next(target for target in message["result"]["targetInfos"] if target["type"] == "page")
    return create_connection(
        f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}", timeout=PATIENCE_S, suppress_origin=True
    )
