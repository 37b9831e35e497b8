"""One version's time beside another's: ratios of pairs, and how sure they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.against import DECLARATIONS, main, measure, outside, ratio_of

REPOSITORY = Path(__file__).resolve().parents[1]


def test_the_interval_is_that_of_the_sign_test() -> None:
    # tabled: 95 % of the median lie between the 4th and the 12th of 15, the 2nd and the 9th of 10
    assert [outside(count) for count in (5, 6, 10, 15)] == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"),
    [(1.0, 0.01, "within 3 %"), (1.1, 0.01, "slower"), (1.03, 0.05, "undecided")],
)
def test_verdicts(ratio: float, noise: float, verdict: str) -> None:
    old = [1.0 + 0.3 * turn for turn in range(15)]  # a machine that gets slower all the time
    new = [mine * ratio * (1 + noise * (turn % 3 - 1)) for turn, mine in enumerate(old)]
    found = ratio_of(old, new)
    assert found.ratio == pytest.approx(ratio)
    assert found.verdict == verdict


def test_few_rounds_decide_nothing() -> None:
    assert ratio_of([1.0] * 5, [2.0] * 5).verdict == "undecided"


def test_the_two_take_turns_and_the_first_round_does_not_count() -> None:
    old, new = Path("old"), Path("new")
    asked: list[str] = []

    def run(checkout: Path) -> float:
        asked.append(checkout.name)
        return 1.0 if len(asked) > 2 else 9.0

    found = measure(old, new, 2, {"work": run}, Console(quiet=True))
    assert asked == ["new", "old", "old", "new", "new", "old"]
    assert (found["work"].old_s, found["work"].new_s) == (1.0, 1.0)


def test_a_checkout_beside_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert (REPOSITORY / DECLARATIONS[0].replace(".", "/")).with_suffix(".py").is_file()
    assert main([str(REPOSITORY), "--rounds", "1", "--only", "import archsim"]) == 0
    assert "import archsim" in capsys.readouterr().out


def test_what_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no checkout of archsim" in capsys.readouterr().err
