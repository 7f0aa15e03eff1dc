"""The browser that these tests look through."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from browser.visiting import chromium


@pytest.fixture(scope="module")  # as Playwright's event loop runs while this is open, and other files have their own
def browser() -> Iterator[Browser]:
    """Chromium; without it tests are skipped, or fail in CI."""
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium())
        except FileNotFoundError:
            absent = "Chromium is not installed: run `apt-get install chromium`."
            if os.environ.get("CI") == "true":
                pytest.fail(absent)
            pytest.skip(absent)
        yield browser
