"""A real browser, and the console's app behind a real port, for the tests of the console."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
WAIT_MS = 60_000
"""Until something that never happens is given up; nothing is measured."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's; without one CI fails, and elsewhere the tests are skipped."""
    path = os.environ.get("KINDLING_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        how = "no Chromium here: run `make browser`, or name one in KINDLING_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(how)
        pytest.skip(how)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of an app that answers on this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        limit = time.monotonic() + WAIT_MS / 1000
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < limit
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
