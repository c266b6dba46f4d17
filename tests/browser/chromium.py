"""Start Chromium with Playwright, or say what is missing for that."""

import os
import shutil

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    expect = sync_playwright = None

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Pages can reach nothing but this machine.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]


def path():
    """Return the path of the system's Chromium, or None. Playwright's own is never downloaded."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return found or None


def missing():
    """Return a message about what is missing for these tests, or an empty text."""
    if sync_playwright is None:
        return "no Playwright here; make test-browser installs it"
    if path() is None:
        return "no Chromium here; install your system's package, or set CHROMIUM to its path"
    return ""


def launch(playwright, **options):
    """Start Chromium without a window."""
    # Chromium refuses to use its sandbox when root runs it, as in containers.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(
        executable_path=path(), args=[*ARGUMENTS, *sandbox], **options
    )
