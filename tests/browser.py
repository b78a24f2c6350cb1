"""A page in headless Chromium: what its console says, which images it lacks, how wide it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTHS = (1280, 390)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_IMAGES = """
return Array.from(document.images).map(image => ({
  alt: image.alt, whole: image.complete && image.naturalWidth > 0, shown: image.currentSrc.length
}))
"""
_WIDE = """
const wide = document.documentElement.scrollWidth
const guilty = Array.from(document.querySelectorAll('body *')).filter(element =>
  element.getBoundingClientRect().right > window.innerWidth + 1 &&
  !element.closest('.scroll') && !element.closest('pre'))
const told = guilty.slice(0, 3).map(element => element.outerHTML.slice(0, 120))
return [wide, window.innerWidth, told]
"""


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Yield a headless browser with an empty profile; no browser is a failure, not a skip."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail("This test needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(60)
        yield browser
    finally:
        browser.quit()


def check(page: Path, profile: Path, *, images: int) -> None:
    """Open a page at both widths, light and dark: it must be whole, quiet and no wider than that.

    Args:
        page: an HTML file.
        profile: an empty folder for the browser.
        images: how many the page has at least.
    """
    with chromium(profile) as browser:
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                _look(browser, page, width, scheme)
                where = f"{page.name} at {width} px, {scheme}"
                found = browser.execute_script(_IMAGES)
                assert len(found) >= images, where
                assert [image["alt"] for image in found if not image["whole"]] == [], where
                assert all(image["alt"] and image["shown"] for image in found), where
                wide, window, guilty = browser.execute_script(_WIDE)
                assert window == width, where
                assert wide <= width, f"{where}: {wide} px wide"
                assert guilty == [], where
        said = [line for line in browser.get_log("browser") if line["level"] != "INFO"]
        assert said == []
        own = ("file:", "data:", "chrome:")  # the last: the tab it starts with
        elsewhere = [url for url in _asked(browser) if not url.startswith(own)]
        assert elsewhere == []


def screenshot(browser: webdriver.Chrome, page: Path, width: int, scheme: str) -> str:
    """Return the whole page as a PNG in base64."""
    _look(browser, page, width, scheme)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    _size(browser, width, height)
    shot = {"format": "png", "captureBeyondViewport": True}
    return str(browser.execute_cdp_cmd("Page.captureScreenshot", shot)["data"])


def _look(browser: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    _size(browser, width, 900)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    browser.get(page.resolve().as_uri())
    browser.execute_script(
        "for (const each of document.querySelectorAll('details')) each.open = 1"
    )


def _size(browser: webdriver.Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def _asked(browser: webdriver.Chrome) -> Iterator[str]:
    """Yield every address that the page asked for."""
    for line in browser.get_log("performance"):
        message: dict[str, Any] = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]
