"""What goes back to a client: JSON, redirects, and HTML pages in one frame and style."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

STYLE = """
:root { --ink: #16202c; --soft: #5a6675; --line: #dfe4ea; --accent: #1f5fd6; --page: #f3f5f8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.banner { background: #ffdf80; color: #4a3500; padding: .5rem 1rem; text-align: center;
  font-size: .9rem; }
.banner a { color: inherit; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
.card { background: #fff; border: 1px solid var(--line); border-radius: .75rem; padding: 1.25rem;
  margin-bottom: 1rem; }
h1, h2 { margin: 0; line-height: 1.25; }
h1 { font-size: 1.35rem; }
h2 { font-size: 1.05rem; }
p { margin: .4rem 0; }
a { color: var(--accent); }
.soft { color: var(--soft); }
.amount { font-size: 2rem; font-weight: 650; margin: .5rem 0; }
.mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .92em;
  overflow-wrap: anywhere; }
.status { display: inline-block; padding: .1rem .65rem; border-radius: 1rem; font-weight: 600;
  font-size: .85rem; background: #e6ebf2; color: #36424f; white-space: nowrap; }
.status.unpaid { background: #dbe8ff; color: #123f94; }
.status.paid { background: #d5f2dd; color: #0c5527; }
.status.expired, .status.canceled { background: #fbdfdc; color: #862015; }
.note { border-left: 4px solid var(--accent); background: #eaf1ff; padding: .6rem .9rem;
  border-radius: .4rem; margin-bottom: 1rem; }
.note.bad { border-color: #c43425; background: #fdebe9; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(18.5rem, 1fr));
  margin-bottom: 1rem; }
.grid .card { margin: 0; display: flex; flex-direction: column; }
.grid form:first-of-type { margin-top: auto; padding-top: .75rem; }
.exact { font-size: 1.2rem; font-weight: 600; }
button { font: inherit; font-weight: 600; border-radius: .5rem; border: 1px solid var(--accent);
  background: #fff; color: var(--accent); padding: .5rem .9rem; min-height: 44px; cursor: pointer; }
button.main { background: var(--accent); color: #fff; width: 100%; }
button.bad { border-color: #b3291b; color: #b3291b; }
label { display: block; font-size: .85rem; color: var(--soft); margin-top: .75rem; }
.row { display: flex; gap: .5rem; flex-wrap: wrap; }
.row input { flex: 1 1 8rem; min-width: 0; }
input { font: inherit; padding: .5rem .6rem; min-height: 44px; border: 1px solid #9aa5b1;
  border-radius: .5rem; }
button:focus-visible, input:focus-visible, a:focus-visible { outline: 3px solid #8db4ff;
  outline-offset: 1px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { white-space: nowrap; }
td.text { white-space: normal; min-width: 9rem; max-width: 16rem; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
""".strip()

# Pages carry what buyers and shops wrote; nothing in them may run or load anything.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is sent."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(data: object, status: int = 200) -> Answer:
    """Answer with JSON."""
    return Answer(status, json.dumps(data).encode(), "application/json")


def redirect(location: str) -> Answer:
    """Send the browser on after a form, so that reloading does not post it again."""
    return Answer(303, headers={"Location": location})


def page(title: str, content: str, status: int = 200) -> Answer:
    """Answer with an HTML page; ``content`` is HTML, ``title`` is text."""
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - Bitsby simulator</title>
<link rel="icon" href="data:,">
<style>
{STYLE}
</style>
</head>
<body>
<div class="banner"><strong>Bitsby simulator.</strong> Nothing here is real money.
<a href="/">All invoices</a></div>
<main>
{content}
</main>
</body>
</html>
"""
    return Answer(status, html.encode(), "text/html; charset=utf-8", PAGE_HEADERS)


def not_found_page() -> Answer:
    """Answer that there is no such page."""
    card = '<div class="card"><h1>Not found</h1><p>There is no such page or invoice here.</p></div>'
    return page("Not found", card, 404)
