"""Looking at a page: its picture on a desktop and on a phone, its width, and what axe-core says."""

from __future__ import annotations

import os
from pathlib import Path

try:
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

FOLDER = Path(os.environ.get("SCREENSHOTS") or Path(__file__).parent / "screenshots")
WIDTHS = {"desktop": (1200, 800), "phone": (360, 740)}
GRAVE = ("serious", "critical")
#: Bootstrap's blue, and white on it, which axe finds too pale. Links and buttons have the colours
#: of the shop's theme, and a theme is the shop's to choose.
THEMES_BLUE = "#007bff"

#: What others wrote and we do not: axe is not asked about it.
#: Oscar's frame: a language selector and a search field without labels, grey on grey.
FOREIGN = ("#top_page", "header.header", ".nav-checkout", "footer", ".navbar", ".breadcrumb")


def look_at(page, name, within=None, wide=False):
    """Look at a page, and fail when it does not fit a phone or keeps somebody out.

    Args:
        page: where it is shown.
        name: what it shows; the pictures are named after it.
        within: the part that is ours, which axe is to look at; by default all but Oscar's frame.
        wide: Oscar's own markup round ours is wider than a phone.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for device, (width, height) in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=FOLDER / f"{name}-{device}.png", full_page=True, animations="disabled")
    # On the phone, where everything of ours is shown too, and where tables have to scroll.
    if not wide:
        assert overhang(page) == 0, f"{name} has to be scrolled sideways: {widest(page)}"
    grave = violations(page, within)
    assert not grave, f"{name}:\n" + "\n".join(grave)
    page.set_viewport_size(before)


def overhang(page):
    """Return how many pixels of a page are beyond its window's right edge."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def widest(page):
    """Return the elements that reach beyond the window, for the message of a failed test."""
    return page.evaluate(
        """Array.from(document.querySelectorAll("body *"))
            .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
            .map(one => one.outerHTML.slice(0, 120)).slice(0, 8)"""
    )


def violations(page, within=None):
    """Return what axe-core calls serious or critical, one line for each element."""
    context = {"exclude": [[one] for one in FOREIGN]}
    if within:
        context["include"] = [[within]]
    found = Axe().run(page, context=context, options={"resultTypes": ["violations"]})
    return [
        f"{one['impact']} {one['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for one in found.response["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
        if not (one["id"] == "color-contrast" and THEMES_BLUE in node["failureSummary"])
    ]
