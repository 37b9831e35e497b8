"""A report as one HTML file that asks the network for nothing and runs no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from archsim.report.charts import INK, PAPER

_STYLE = """figure { margin: 0; overflow-x: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #8886; }"""


def page(title: str, body: str, width: str, style: str = "", dark: str | None = None) -> str:
    """The file. `body` is HTML below the title; `style` adds rules to those of every page.

    `dark`: rules for a dark screen, where a page has them; without, it is light on every screen.
    """
    name = html.escape(title)
    scheme = "" if dark is None else '<meta name="color-scheme" content="light dark">\n'
    rules = [
        f"body {{ font: 15px/1.45 system-ui, sans-serif; max-width: {width}; margin: 2rem auto;",
        f"  padding: 0 1rem; color: {INK[0]}; background: {PAPER[0]}; }}",
        _STYLE,
        *([style] if style else []),
    ]
    if dark is not None:
        rules += [
            "@media (prefers-color-scheme: dark) {",
            f"body {{ color: {INK[1]}; background: {PAPER[1]}; }}",
            dark,
            "}",
        ]
    lines = "\n".join(rules)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
{scheme}<title>{name}</title>
<style>
{lines}
</style></head><body>
<h1>{name}</h1>
{body}
</body></html>
"""


def table(heads: Sequence[str], rows: Iterable[tuple[Sequence[str], str]]) -> str:
    """Rows of cells, each with a class of its own or ``""``; wider than the page, it scrolls."""
    lines = [_row("th", heads, "")]
    lines += [_row("td", cells, kind) for cells, kind in rows]
    return "\n".join(['<div class="table"><table>', *lines, "</table></div>"])


def _row(tag: str, cells: Sequence[str], kind: str) -> str:
    text = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr class={kind}>{text}</tr>" if kind else f"<tr>{text}</tr>"
