"""A headless Chromium for tests, driven by chromedriver's own HTTP protocol (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Shift": "\ue008"}
PROGRAMS = {"Chromium": ("chromium", "chromium-browser"), "chromedriver": ("chromedriver",)}


def missing() -> str | None:
    """Which program is not there, None if all are."""
    for name, commands in PROGRAMS.items():
        if not any(map(shutil.which, commands)):
            return f"{name} is not installed (Debian: apt install chromium chromium-driver)"
    return None


def _program(name: str) -> str:
    return next(path for command in PROGRAMS[name] if (path := shutil.which(command)))


class Chromium:
    """A browser with a profile of its own, gone when the block ends."""

    def __enter__(self) -> Chromium:
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self.driver = subprocess.Popen(
            [_program("chromedriver"), "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.url = f"http://127.0.0.1:{self._port()}"
            self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
            options = {
                "binary": _program("Chromium"),
                "args": [*ARGUMENTS, f"--user-data-dir={self.profile.name}"],
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._end()
            raise
        self.url += f"/session/{made['sessionId']}"
        return self

    def _port(self) -> int:
        for line in self.driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                return int(found[1])
        raise RuntimeError("chromedriver ended at once")

    def __exit__(self, *error: object) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._end()

    def _end(self) -> None:
        self.driver.terminate()
        self.driver.wait(timeout=20)
        self.driver.stdout.close()
        self.profile.cleanup()

    def _call(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        body = None if method != "POST" else json.dumps(data or {}).encode()
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with self.open(request, timeout=120) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(json.loads(error.read())["value"]["message"]) from None

    def goto(self, path: Path) -> None:
        """Open a file, with nothing logged before."""
        self._call("POST", "/url", {"url": "about:blank"})
        self.log("browser")
        self.log("performance")
        self._call("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function returns, also of a promise."""
        done = "const end = arguments[arguments.length - 1];"
        text = f"{done} (async (...arguments) => {{ {script} }})(...arguments).then(end, e => end(String(e)))"
        return self._call("POST", "/execute/async", {"script": text, "args": list(arguments)})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Entries since it was last asked for: ``browser`` (the console) or ``performance``."""
        return self._call("POST", "/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """URLs that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds."""
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{found[ELEMENT]}/click")

    def press(self, *keys: str) -> None:
        """Press and release keys, one after the other, where the focus is."""
        actions = [
            {"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")
        ]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def window(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """A window of some CSS pixels for a user who wishes light or dark, and that nothing moves."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.devtools("Emulation.setScrollbarsHidden", hidden=True)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.devtools("Emulation.setEmulatedMedia", features=features)
        # what watches the window has seen it after the second of two frames
        self.run("for (const _ of [1, 2]) await new Promise(requestAnimationFrame)")

    def screenshot(self, path: Path) -> Path:
        """The whole page as PNG."""
        size = self.run("const e = document.documentElement; return [e.clientWidth, e.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        made = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(made["data"]))
        return path
