"""What comments cite as FACTS stands in docs/facts.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_section_and_step_that_a_comment_cites_is_there() -> None:
    text = (ROOT / "docs" / "facts.md").read_text("utf-8")
    there = set()
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"## (\d+) ", line):
            section = heading[1]
            there.add(section)
        elif step := re.match(r"(\d+)\. ", line):
            there.add(f"{section}.{step[1]}")
    cited: dict[str, Path] = {}
    for folder in ("archsim", "hwconfigs", "docs", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".yaml", ".md"} and path.name != "facts.md":
                for found in re.finditer(
                    r"FACTS((?:,? (?:and |to |section )?\d(?:\.\d)?)+)", path.read_text("utf-8")
                ):
                    cited |= dict.fromkeys(re.findall(r"\d(?:\.\d)?", found[1]), path)
    assert len(cited) > 10
    assert {name: path for name, path in cited.items() if name not in there} == {}
