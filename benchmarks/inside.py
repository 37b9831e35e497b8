"""One piece of work in a process of one checkout: a script that runs on any version of archsim.

Started by its path with ``PYTHONPATH`` at the checkout; it knows what is public alone. Prints the
CPU seconds of the fastest of some repetitions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

import archsim

REPEATED = 3


def trace(layers: int, heads: int, tokens: int, head_dim: int) -> archsim.Trace:
    """Random values in the arrays' range."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(0, 1, (layers, heads, tokens, head_dim)) for _ in range(3))
    return archsim.Trace.from_arrays(q, k, v, "fit", name="random")


def function() -> Callable[[], object]:
    """A layer of GPT-2's shape through the datapath."""
    given = trace(1, 12, 1024, 64)
    q, k, v = given.layer(0)
    scalers = {name: (a[0], b[0]) for name, (a, b) in given.scalers.items()}
    hardware = archsim.load_hardware()
    return lambda: archsim.attend(q, k, v, hardware, scalers)


def timing() -> Callable[[], object]:
    """Times and energies of GPT-2's layers and heads by a recurrence; the function is kept."""
    given, hardware = trace(12, 12, 256, 8), archsim.load_hardware()
    return lambda: archsim.simulate(given, hardware, order="prefill", engine="fast")


def events() -> Callable[[], object]:
    """Times and energies by events, shared blocks first come; the function is kept."""
    sharing = {"write_path.heads_per_driver": 2, "write_path.arbitration": "fifo"}
    hardware = archsim.load_hardware(
        overrides={**sharing, "controller.pipelining": "stages", "window": 128}
    )
    given = trace(3, 4, 48, 8)
    return lambda: archsim.simulate(given, hardware, order="prefill", engine="simpy")


PIECES = {"function": function, "timing": timing, "events": events}


def main() -> None:
    """Do it once, so that all is loaded and kept, and then measure."""
    work = PIECES[sys.argv[1]]()
    work()
    seconds = []
    for _ in range(REPEATED):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    print(min(seconds))


if __name__ == "__main__":
    main()
