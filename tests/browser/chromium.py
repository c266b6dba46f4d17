"""Chromium by way of Playwright, or the reason why there is none."""

from __future__ import annotations

import os
import shutil

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    expect = sync_playwright = None

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Nothing but this machine can be reached, whatever a page asks for.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]


def path():
    """Return where the system's Chromium is, or None. Playwright's own is never downloaded."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return found or None


def missing():
    """Return what is missing for these tests, in words for people, or nothing."""
    if sync_playwright is None:
        return "no Playwright here; make test-browser installs it"
    if path() is None:
        return "no Chromium here; install your system's package, or set CHROMIUM to its path"
    return ""


def launch(playwright, **options):
    """Start Chromium without a window."""
    # Root has no sandbox of its own to be put in, as in containers.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(
        executable_path=path(), args=[*ARGUMENTS, *sandbox], **options
    )
