"""``python -m studies.sweeps [NAME...]``: renew the tables of ``docs/studies``.

Runs the shipped sweeps (all, or those named) into the default store and puts what they print
between the marks of their page. What the tables mean is written by hand around them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from archsim.files import data_folder, renew_marked
from archsim.report.sweep import sweep_text
from archsim.sweeps.runner import explore
from archsim.sweeps.sweep_file import available_sweeps, load_sweep

OPENING, CLOSING = "<!-- made by: python -m studies.sweeps {} -->", "<!-- end -->"


def table(name: str) -> str:
    """What a shipped sweep prints, at 80 columns."""
    exploration = explore(load_sweep(name))
    console = Console(width=80, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(sweep_text(exploration, "reports/sweeps.db"))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def renew(name: str, folder: Path) -> None:
    """Put the tables of one sweep into its page."""
    opening = OPENING.format(name)
    renew_marked(folder / f"{name}.md", opening, CLOSING, f"```text\n{table(name)}\n```")


if __name__ == "__main__":
    studies = data_folder("hwconfigs").parent / "docs" / "studies"
    for study in sys.argv[1:] or available_sweeps():
        renew(study, studies)
