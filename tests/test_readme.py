"""The README shows what the commands print today; ``python tests/test_readme.py`` renews it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from archsim.validation.predictions import REFERENCE_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

SHOWN = {
    "simulate": (["simulate", "--no-report"], "hardware", "Area of a head"),
    "function": (["simulate", "--no-report"], "Function", ""),
    "validate": (["validate"], "Published figure", "Fitted coefficient"),
    "compare": (
        ["compare", "--gpu", "rtx-4090", "--gpu", "h100-sxm"],
        "Protocol paper",
        "Protocol eager",
    ),
}
"""Marker in the README: the command, and the words between whose lines its output is shown."""


def shown(name: str) -> str:
    """The part of a command's output that the README shows."""
    arguments, first, after = SHOWN[name]
    printed = subprocess.run(
        [sys.executable, "-m", "archsim", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        # the same for everybody, whether or not the authors' data files are at hand
        env={name: value for name, value in os.environ.items() if name != REFERENCE_VARIABLE},
    ).stdout
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    ends = (i for i, line in enumerate(lines) if i > start and after and line.startswith(after))
    stop = next(ends, len(lines))
    return "\n".join(lines[start:stop]).strip()


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(?:```text\n(.*?)\n```\n)?", re.DOTALL)


@pytest.mark.parametrize("name", SHOWN)
def test_readme_shows_what_is_printed(name: str) -> None:
    found = block(name).search(README.read_text(encoding="utf-8"))
    assert found is not None
    assert found[2] == shown(name), "run: python tests/test_readme.py"


def test_no_line_of_the_readme_is_too_wide_to_read() -> None:
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= 120, number


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for marker in SHOWN:
        text = block(marker).sub(lambda m, n=marker: f"{m[1]}```text\n{shown(n)}\n```\n", text)
    README.write_text(text, encoding="utf-8")
