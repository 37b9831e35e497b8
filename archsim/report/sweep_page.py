"""The page of a sweep: its charts and the tables of its fronts, without a script."""

from __future__ import annotations

import html
from collections.abc import Sequence

from archsim.report.formats import number
from archsim.report.page import page, table
from archsim.report.sweep_front import cautions, contest_title, front_rows, objective_unit
from archsim.sweeps.contest import Contest
from archsim.sweeps.exploration import Exploration


def sweep_page(
    exploration: Exploration,
    found: Sequence[Contest],
    sections: Sequence[tuple[str, str]],
    colour: str,
) -> str:
    """One HTML file; `sections` are titles and SVG, `colour` marks the published design."""
    sweep = exploration.sweep
    said = "\n".join(f"<p>{html.escape(line.plain)}</p>" for line in cautions(exploration))
    figures = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n<figure>{picture}</figure>" for title, picture in sections
    )
    tables = "\n".join(_front(exploration, contest) for contest in found)
    counts = ", ".join(f"{count:,} {name}" for name, count in exploration.counts.items())
    body = f"""<p>{html.escape(sweep.description)}</p>
<p>{len(exploration.points):,} points: {html.escape(counts)}. Energy is of one token in one head,
area of one head. Point at a mark to read what it is.</p>
{said}
{figures}
{tables}"""
    style = f"svg {{ overflow: visible; }}\n.published {{ color: {colour}; }}"
    return page(f"Sweep {sweep.name}", body, "70rem", style)


def _front(exploration: Exploration, contest: Contest) -> str:
    """The front of one contest, designs with equal results in one row."""
    heads = [*(f"{o.name} {objective_unit(o)}".strip() for o in contest.objectives), "design"]
    rows = (
        ([*(number(value) for value in row.values), row.design], "published" * row.published)
        for row in front_rows(exploration, contest)
    )
    on = contest_title(exploration, contest)
    title = f"Points on the front, {on}" if on else "Points on the front"
    return f"<h2>{html.escape(title)}</h2>\n{table(heads, rows)}"
