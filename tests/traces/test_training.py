"""Training: sequences that need attention, and one line where the extra is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from archsim.models.training import batches
from archsim.models.training.card import _commands

CORPUS = np.arange(1, 4001, dtype=np.uint16)


def test_batches_are_keyed_by_seed_and_step() -> None:
    one, two = (batches.batch(1, 7, CORPUS, 4, 128, 4096) for _ in range(2))
    other = batches.batch(1, 8, CORPUS, 4, 128, 4096)
    assert np.array_equal(one[0], two[0])
    assert one[2] == two[2]
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("random_share", [0.0, 1.0])
def test_a_repeated_segment_repeats(random_share: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = batches.repeat(rng, CORPUS, 256, 4096, random_share)
        targets = made.ids[1:]
        assert np.array_equal(targets[made.first], targets[made.second])
        assert (made.weight[made.second] == 1).all()
        if random_share:
            assert (made.weight[made.first] == 0).all(), "nobody can predict random tokens"


def test_recall_asks_for_every_value_once() -> None:
    for seed in range(20):
        made = batches.recall(np.random.default_rng(seed), CORPUS, 256, 4096)
        told = dict(zip(made.ids[made.first], made.ids[1:][made.first], strict=True))
        asked = dict(zip(made.ids[made.second], made.ids[1:][made.second], strict=True))
        assert told == asked


def test_a_cycle_repeats_to_the_end() -> None:
    made = batches.cycle(np.random.default_rng(3), CORPUS, 256, 4096)
    length = made.first.stop + 1
    assert np.array_equal(made.ids[length:], made.ids[:-length])


def test_the_card_names_the_commands_that_trained_it() -> None:
    """A resumed run is one command; a changed schedule another."""
    rows = [
        {"step": 0, "schedule": 100, "threads": 2},
        {"step": 40, "schedule": 100, "threads": 2},
        {"step": 60, "schedule": 200, "threads": 1},
        {"step": 90, "probe": {}},
    ]
    command = "python -m archsim.models.training train corpus -o run"
    assert _commands(rows, 90) == [
        f"{command} --steps 100 --stop-at 60 --threads 2",
        f"{command} --steps 200 --stop-at 90 --threads 1",
    ]


@pytest.mark.parametrize(("step", "module"), [("corpus", "rdata"), ("train", "torch")])
def test_a_missing_extra_is_one_line_and_exit_3(step: str, module: str, tmp_path: object) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None; "
        f"sys.argv = ['training', {step!r}, '--help'] if {step!r} == 'train' else "
        f"['training', {step!r}, '-o', {str(tmp_path)!r}]; "
        "import archsim.models.training.corpus as c; "
        "c._download = lambda work: (work, [work, work]); "
        "from archsim.models.training.__main__ import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 3
    assert run.stderr == f"error: training needs {module}: pip install 'archsim[train]'\n"
