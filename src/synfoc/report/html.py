"""Parts that every HTML page of synfoc has: one file that opens from a mail, offline, and prints.

No script, no font, no address of the outside: a content policy in the page forbids the rest.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from datetime import date
from html import escape
from importlib.resources import files

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, headline: str, body: str) -> str:
    """Return a whole page; title and headline are text, the body is HTML."""
    css = files("synfoc.report").joinpath("page.css").read_text(encoding="utf-8")
    made = f"synfoc {importlib.metadata.version('synfoc')}, {date.today().isoformat()}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="headline">{escape(headline)}</p>
</header>
<main>
{body}</main>
<footer>{escape(made)}</footer>
</body>
</html>
"""


def section(title: str, body: str) -> str:
    """Return a part of the page with its heading; "" where the body is empty."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n" if body else ""


def bullets(items: Sequence[str]) -> str:
    """Texts as a list."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def fold(title: str, body: str, *, opened: bool = False) -> str:
    """Return a body that shows when its title is clicked; printed it is always open."""
    mark = " open" if opened else ""
    return f"<details{mark}><summary>{escape(title)}</summary>\n{body}\n</details>\n"
