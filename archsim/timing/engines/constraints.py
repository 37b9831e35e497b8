"""What follows from program order alone: private resources turned into precedences.

Where the order in which a resource is used is known beforehand, taking it is the same as not
starting before whoever held it last gave it back. What is left are the shared resources. The
default discrete-event engine and the recurrences are both built from these steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from archsim.chip.stage import After, Periodic, Resource, Stage
from archsim.timing.declaration import Declaration


@dataclass(frozen=True)
class Step:
    """One stage: what it waits for, and the shared resources it then asks for, in order.

    A `periodic` one then waits for more where something is due.
    """

    name: str
    constraints: tuple[After, ...]
    shared: tuple[Resource, ...]
    periodic: Periodic | None = None


def steps(declaration: Declaration) -> list[Step]:
    """The stages in order, private resources as constraints on whoever held them before.

    Raises ValueError if a stage takes a private resource after a shared one: when it asks for the
    shared one would then depend on more than its constraints; or if it gives a shared one back at
    its start.
    """
    compiled = []
    for stage in declaration.stages:
        constraints = list(stage.after)
        shared: list[Resource] = []
        for name in stage.takes:
            resource = declaration.resource(name)
            if resource.heads > 1:
                shared.append(resource)
            elif shared:
                raise ValueError(f"{stage.name} takes {name}, its own, after what it shares")
            else:
                constraints.append(_holder_before(declaration, resource, stage))
        if any(declaration.resource(name).heads > 1 for name in stage.gives_at_start):
            raise ValueError(f"{stage.name} gives back what heads share at its start")
        # a head asks for its next token when it is done with this one
        constraints.append(After(stage.name, lag=1))
        waits = tuple(dict.fromkeys(constraints))
        compiled.append(Step(stage.name, waits, tuple(shared), stage.periodic))
    return compiled


def layer_buffer(declaration: Declaration) -> int | None:
    """Tokens that fit between two layers; None for any number, or where there is one layer."""
    lags = [c.lag for stage in declaration.stages for c in stage.after if c.next_layer]
    return min(lags) if lags and declaration.shape[1] > 1 else None


def _holder_before(declaration: Declaration, resource: Resource, stage: Stage) -> After:
    """The release a private use waits for: `capacity` uses earlier in program order.

    The arrays of a head count as one resource: every read takes all of them, so a write to any
    follows the read before it and precedes the read after it.
    """
    users = declaration.users(resource.name)
    position = users.index(stage) - resource.capacity
    lag = -(position // len(users))
    giver, point = declaration.giver(resource.name, users[position % len(users)])
    return After(giver.name, point, lag, 0)


def segments(compiled: list[Step]) -> list[list[Step]]:
    """Stretches of stages that one process works through, token after token.

    Within a stretch only the first stage waits for times that others find out; so it never keeps
    its process from asking for the next token in time.
    """
    breaks = {0} | {i for i, step in enumerate(compiled) if step.shared}
    while True:
        part = [sum(i >= b for b in breaks) for i in range(len(compiled))]
        home = {step.name: part[i] for i, step in enumerate(compiled)}
        more = {
            i
            for i, step in enumerate(compiled)
            if any(c.next_layer or home[c.stage] != part[i] for c in step.constraints)
        }
        if more <= breaks:
            edges = [*sorted(breaks), len(compiled)]
            return [compiled[a:b] for a, b in pairwise(edges)]
        breaks |= more
