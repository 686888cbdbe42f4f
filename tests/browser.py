"""A real Chromium, Debian's, that sees this machine only."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from waiting import PATIENCE

# Playwright's own flags stop Chromium's background networking already.
FLAGS = (
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--no-proxy-server",
    "--no-pings",
)


class Tab:
    """A page, the URLs that it asked for and its errors: of scripts, and on the console."""

    def __init__(self, page: Page):
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


@dataclass(frozen=True)
class Chromium:
    """The running browser."""

    browser: Browser

    @contextmanager
    def open(self, url: str, **options: Any) -> Iterator[Tab]:
        """Open a page in a fresh context; afterwards none of its requests left the machine.

        Nor had it errors: what a test expects, it takes out of ``tab.errors``.

        Args:
            url: ``file://`` or of a server of this machine.
            options: Of the context, such as ``color_scheme="dark"``.
        """
        with self.browser.new_context(**options) as context:
            context.set_default_timeout(1000 * PATIENCE)
            tab = Tab(context.new_page())
            tab.page.goto(url)
            yield tab
            strays = [url for url in tab.requests if not is_local(url)]
            assert not strays, f"the page asked for {', '.join(strays)}"
            assert not tab.errors, "\n".join(tab.errors)


def is_local(url: str) -> bool:
    """Tell whether a URL stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("file", "data", "blob") or parts.hostname in ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Start Chromium for the tests of a module.

    Not of the session: as long as Playwright runs, asyncio holds that this thread is busy.
    """
    executable = _executable()
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=FLAGS,
            timeout=1000 * PATIENCE,
            chromium_sandbox=os.geteuid() != 0,  # root has none
        )
        yield Chromium(browser)
        browser.close()


def _executable() -> str:
    """Return where Chromium is; as root on Debian, install it first where it is not."""
    if (found := shutil.which("chromium")) or (found := _install()):
        return found
    message = "no Chromium: as root, apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _install() -> str | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    install = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("apt-get", "update"), install):
        # Without its lists brought up to date, the package may still be there.
        subprocess.run(command, env=environment, capture_output=True)
    return shutil.which("chromium")
