"""Screenshots of a page on a desktop and a phone, and checks of its width and accessibility."""

import os
from pathlib import Path

try:
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

FOLDER = Path(os.environ.get("SCREENSHOTS") or Path(__file__).parent / "screenshots")
WIDTHS = {"desktop": (1200, 800), "phone": (360, 740)}
SEVERE = ("serious", "critical")
#: Bootstrap's blue, whose contrast with white axe finds too low. The colours of links and buttons
#: come from the shop's theme.
THEMES_BLUE = "#007bff"

#: Oscar's own parts of a page, which axe skips: they have fields without labels and low contrast.
OSCARS_PARTS = ("#top_page", "header.header", ".nav-checkout", "footer", ".navbar", ".breadcrumb")


def take_screenshot(page, name, within=None, wide=False):
    """Save screenshots of a page; fail if it is wider than a phone or has severe axe violations.

    Args:
        page: Playwright's page.
        name: the beginning of the screenshots' file names.
        within: the selector of the part that axe checks; by default all but Oscar's parts.
        wide: skip the check of the width, because Oscar's own markup is wider than a phone.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for device, (width, height) in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=FOLDER / f"{name}-{device}.png", full_page=True, animations="disabled")
    # The window has the phone's width now.
    if not wide:
        assert overflow(page) == 0, f"{name} has to be scrolled sideways: {widest(page)}"
    found = violations(page, within)
    assert not found, f"{name}:\n" + "\n".join(found)
    page.set_viewport_size(before)


def overflow(page):
    """Return by how many pixels a page is wider than its window."""
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
    """Return axe-core's serious and critical violations, one line for each element."""
    context = {"exclude": [[one] for one in OSCARS_PARTS]}
    if within:
        context["include"] = [[within]]
    found = Axe().run(page, context=context, options={"resultTypes": ["violations"]})
    return [
        f"{one['impact']} {one['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for one in found.response["violations"]
        if one["impact"] in SEVERE
        for node in one["nodes"]
        if not (one["id"] == "color-contrast" and THEMES_BLUE in node["failureSummary"])
    ]


def small_targets(page, part=".page-content", links="a"):
    """Return what fingers cannot hit in a part of a page, because it is smaller than 44 pixels."""
    fields = "input:not([type=hidden], [type=checkbox])"
    kinds = (links, "button", "label:has(input)", "select", fields)
    return page.evaluate(
        """selector => Array.from(document.querySelectorAll(selector))
            .map(one => [one, one.getBoundingClientRect()])
            .filter(([one, box]) => box.width
                // Browsers draw wide radio buttons as large circles.
                && (box.height < 44 || (box.width < 44 && one.type !== "radio")))
            .map(([one, box]) => `${box.width} x ${box.height}: ${one.outerHTML.slice(0, 120)}`)""",
        ", ".join(f"{part} {kind}" for kind in kinds),
    )
