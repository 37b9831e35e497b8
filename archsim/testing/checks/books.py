"""Whether a block's books hold, and whether they would notice that it counts wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archsim.books import Books
from archsim.books import check as balance
from archsim.chip.action import Action, Bucket
from archsim.chip.head import Head
from archsim.chip.stage import Declared
from archsim.chip.work import Block, Footprints, Implied, Shapes, Spent, Work
from archsim.errors import InvariantError
from archsim.ledger import Ledger
from archsim.simulation import post_energy
from archsim.testing.cases import Run

BOOKS = "books"


@dataclass
class _Wrong:
    """A block that counts wrong: so many times what it did, or without one action."""

    block: Block
    factor: float = 1.0
    without: Action | None = None

    @property
    def total(self) -> Bucket:
        return self.block.total

    def stages(self, heads: int) -> Declared:
        return self.block.stages(heads)

    def implied(self, shapes: Shapes) -> Implied:
        return self.block.implied(shapes)

    def footprints(self, heads: int) -> Footprints:
        return self.block.footprints(heads)

    def spend(self, work: Work) -> Spent:
        for action, energy, operations in self.block.spend(work):
            if action != self.without:
                yield action, energy, operations * self.factor


def own_block(run: Run) -> Block | None:
    """The block that the variant is, if it is one."""
    head, slot = run.simulation.head, run.trial.variant.slot.name
    own: Block | None = {"readout": head.readout, "refresh": head.refresh}.get(slot)
    return own


def check(run: Run) -> dict[str, str]:
    """The run's books balance with its own `spend`, and do not with a wrong one.

    Raises ConformError.
    """
    block = own_block(run)
    if block is None:
        return {BOOKS: "balanced"}
    posted = _operations(run, block)
    if not posted:
        raise run.trial.fault(BOOKS, "spend yields no action, so nothing of it is in the ledger")
    wrongs: list[tuple[str, _Wrong]] = [
        (f"{action.label} left out", _Wrong(block, without=action)) for action in posted
    ]
    if any(posted.values()):
        wrongs.append(("operations doubled", _Wrong(block, factor=2.0)))
    for what, wrong in wrongs:
        try:
            _balance(run, block, wrong)
        except InvariantError:
            continue
        raise run.trial.fault(
            BOOKS, f"{what}, and nobody notices: implied must bound them from shapes"
        )
    return {BOOKS: f"balanced; a wrong spend is noticed ({len(wrongs)} tried)"}


def _operations(run: Run, block: Block) -> dict[Action, float]:
    """What the block posted in the run."""
    implied = {action for action, _, _ in _implied(run, block)}
    return {p.action: p.operations for p in run.simulation.ledger if p.action in implied}


def _implied(run: Run, block: Block) -> Iterator[tuple[Action, float, float]]:
    kept: list[Shapes] = []

    @dataclass
    class _Listening(_Wrong):
        def implied(self, shapes: Shapes) -> Implied:
            kept.append(shapes)
            return self.block.implied(shapes)

    _balance(run, block, _Listening(block))
    yield from block.implied(kept[0])


def _balance(run: Run, block: Block, instead: Block) -> None:
    """The books of the run with another block in place of one. Raises InvariantError."""
    simulation = run.simulation
    head = Head.__new__(Head)
    vars(head).update(vars(simulation.head))
    head.store, head.reader = (
        tuple(instead if each is block else each for each in blocks)
        for blocks in (simulation.head.store, simulation.head.reader)
    )
    ledger = Ledger()
    post_energy(ledger, head, simulation.function, simulation.schedule)
    books = Books(
        simulation.trace,
        simulation.hardware.config,
        head,
        simulation.declaration,
        simulation.schedule,
        ledger,
    )
    balance(books, sum(each.area for each in head.footprints(simulation.trace.heads)))
