"""The studies of routes and of matching on a tiny model: every row and its place in the page."""

from __future__ import annotations

from pathlib import Path

import torch

from archsim.adaptation import rematching, routes
from tests.adaptation.conftest import OVERRIDES


def test_every_route_is_measured_and_shown_for_every_seed(
    tiny_folder: Path, text: str, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "one.txt").write_text(text)
    unseen, page = tmp_path / "unseen.txt", tmp_path / "page.md"
    unseen.write_text(text[::-1])
    page.write_text(f"before\n\n{routes.OPENING}\n{routes.CLOSING}\nafter\n")
    words = ["--model", tiny_folder, "--text", corpus, "--unseen", unseen, "-o", page]
    words += ["--steps", 3, "--seeds", 2, "--windows", 1, "--threads", torch.get_num_threads()]
    words += [word for pair in OVERRIDES.items() for word in ("--set", "=".join(map(str, pair)))]
    routes.main([str(word) for word in words])
    lines = page.read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [(row[0].strip("| "), row[1]) for row in rows] == [
        (route.name, str(route.steps)) for route in routes.routes(3, 0)
    ]
    assert all(len(row[2].split(",")) == 2 for row in rows)
    assert lines[0] == "before"
    assert lines[-1] == "after"


def test_matching_is_done_anew_for_every_seed_and_statistic(
    adapted_folder: Path, text: str, tmp_path: Path
) -> None:
    unseen, page = tmp_path / "unseen.txt", tmp_path / "page.md"
    unseen.write_text(text[::-1])
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one.txt").write_text(text)
    page.write_text(f"{rematching.OPENING}\n{rematching.CLOSING}\n")
    words = ["--model", adapted_folder, "--text", tmp_path / "corpus", "--unseen", unseen]
    words += ["-o", page, "--seeds", 2, "--windows", 1]
    words += [word for pair in OVERRIDES.items() for word in ("--set", "=".join(map(str, pair)))]
    rematching.main([str(word) for word in words])
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line[:2] == "| "][1:]
    assert [row[0] for row in rows] == ["| current", "| voltage"]
    for row in rows:
        losses = [float(x) for x in row[1].split(", ")]
        assert len(set(losses)) == 2, "two calibration sets give two results"
        assert abs(sum(losses) / 2 - float(row[2])) < 1e-3
