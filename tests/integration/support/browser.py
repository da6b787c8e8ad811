# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A headless browser, driven by the DevTools protocol: opens a page as a person would."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.control_plane.processes import wait_for
from tests.tools.prepare import axe_core

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START, _ANSWER = 60.0, 60.0


def find() -> str | None:
    """The browser's program, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


# Where root can install one, tests without a browser fail rather than being skipped.
NEEDED = pytest.mark.skipif(
    find() is None and not (os.geteuid() == 0 and shutil.which("apt-get")),
    reason="there is no Chromium here (make browser installs it)",
)

# What axe-core can't judge in a picture, the unit tests of the charts' colors do.
_AXE = """
axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify(found.violations.map(
  rule => [rule.id, rule.help, rule.nodes.slice(0, 5).map(node => node.target.join(' ') + ': ' + node.failureSummary)])))
"""


@dataclass
class Page:
    """An open page. ``errors`` is what its console says, ``requests`` what it asked for."""

    socket: aiohttp.ClientWebSocketResponse[bool]
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _number: int = 0
    _loaded: bool = False

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=_ANSWER)
            self._note(message)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("text")))
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str(params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    async def open(self, url: str) -> None:
        self._loaded = False
        await self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(await self.socket.receive_json(timeout=_ANSWER))

    async def look(self, *, width: int, scheme: str) -> None:
        """Shows the page on a screen of this width to somebody who wants it ``light`` or ``dark``."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def violations(self) -> list[Any]:
        """What axe-core has against the page as it is shown now: contrast, names, keyboard, structure."""
        await self.evaluate(axe_core() + "; 0")
        return list(json.loads(await self.evaluate(_AXE)))

    async def picture(self, path: Path, height: int | None = None) -> None:
        """A screenshot of the whole page, or of its upper part."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {**size, "height": min(height or size["height"], size["height"]), "scale": 1}
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png", clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def printed(self) -> bytes:
        answer = await self.call("Page.printToPDF", printBackground=False)
        return base64.b64decode(answer["data"])


def read(path: Path, pictures: Path, *, rules: bool = True) -> str:
    """Opens a report as people do, in light and dark, on a wide screen and a phone; returns the text that is shown.

    It must need nothing but itself, say nothing on the console, be no wider than the screen, and give axe-core no reason to complain,
    which takes minutes for a large page (``rules``: False).
    """

    async def look() -> str:
        text = ""
        async with browser(str(find())) as page:
            for width, scheme in ((1100, "light"), (1100, "dark"), (390, "light")):
                await page.look(width=width, scheme=scheme)
                page.requests.clear()
                await page.open(path.as_uri())
                assert page.errors == [] and page.requests == [path.as_uri()]
                await page.picture(pictures / f"{path.stem}-{scheme}-{width}.png")
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                assert not rules or await page.violations() == []
                text = str(await page.evaluate("document.body.innerText"))
        return text

    pictures.mkdir(parents=True, exist_ok=True)
    return asyncio.run(look())


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Page]:
    folder = Path(tempfile.mkdtemp(prefix="browser-"))
    command = [
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]
    command += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"]
    command += ["--remote-debugging-port=0", "--remote-debugging-address=127.0.0.1", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file = folder / "DevToolsActivePort"
        assert wait_for(lambda: port_file.exists() and bool(port_file.read_text()), _START, 0.1), "no browser came up"
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                target = next(tab for tab in await answer.json() if tab["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
                    await page.call(f"{domain}.enable")
                yield page
                await asyncio.wait_for(socket.send_json({"id": 0, "method": "Browser.close"}), _ANSWER)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
