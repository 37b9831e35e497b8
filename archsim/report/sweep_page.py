"""The page of a sweep: its charts and the tables of its fronts, without a script."""

from __future__ import annotations

import html
from collections.abc import Sequence

from archsim.report.formats import number
from archsim.report.sweep_front import cautions, contest_title, front_rows, objective_unit
from archsim.sweeps.contest import Contest
from archsim.sweeps.exploration import Exploration


def page(
    exploration: Exploration,
    found: Sequence[Contest],
    sections: Sequence[tuple[str, str]],
    colour: str,
) -> str:
    """One HTML file; `sections` are titles and SVG, `colour` marks the published design."""
    sweep = exploration.sweep
    tables = "\n".join(_table(exploration, contest) for contest in found)
    said = "\n".join(f"<p>{html.escape(line.plain)}</p>" for line in cautions(exploration))
    figures = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n<figure>{picture}</figure>" for title, picture in sections
    )
    counts = ", ".join(f"{count:,} {name}" for name, count in exploration.counts.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sweep {html.escape(sweep.name)}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }}
figure {{ margin: 0; overflow-x: auto; }}
svg {{ overflow: visible; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #ddd; }}
.published {{ color: {colour}; }}
</style></head><body>
<h1>Sweep {html.escape(sweep.name)}</h1>
<p>{html.escape(sweep.description)}</p>
<p>{len(exploration.points):,} points: {html.escape(counts)}. Energy is of one token in one head,
area of one head. Point at a mark to read what it is.</p>
{said}
{figures}
{tables}
</body></html>
"""


def _table(exploration: Exploration, contest: Contest) -> str:
    """The front of one contest, designs with equal results in one row."""
    heads = [*(f"{o.name} {objective_unit(o)}".strip() for o in contest.objectives), "design"]
    lines = []
    for row in front_rows(exploration, contest):
        cells = [*(number(value) for value in row.values), row.design]
        mark = " class=published" if row.published else ""
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr{mark}>{text}</tr>")
    on = contest_title(exploration, contest)
    title = f"Points on the front, {on}" if on else "Points on the front"
    return "\n".join(
        [
            f"<h2>{html.escape(title)}</h2>",
            f"<div><table><tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>",
            *lines,
            "</table></div>",
        ]
    )
