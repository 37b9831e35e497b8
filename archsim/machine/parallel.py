"""Independent pieces of work side by side, on every core: in forked processes, or in threads.

numpy gives up the interpreter's lock and takes it back around every operation; with operations as
short as a panel's, two threads then spend a third of their time waiting for each other. Processes
do not, and a forked one has all its input already. But forking is safe only where no other Python
thread may hold a lock, so elsewhere, and for small work, it is threads.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, InvariantError
from archsim.machine.blas import libraries

Item = TypeVar("Item")

CORES = "ARCHSIM_CORES"
"""Environment variable: how many cores to use, all of them by default."""

_PLACES = 1 << 12
"""Most numbers that wait in a pipe for a process to take them; each stands for some items."""


def cores() -> int:
    """Cores to use; raises ConfigError if `CORES` is set to anything but a number from 1."""
    asked = os.environ.get(CORES, "")
    if not asked:
        return os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise ConfigError(f"{CORES}={asked[:20]}: use a number of at least 1")
    return int(asked)


def shared(shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float64]]:
    """Arrays of 0 that forked processes write to as well: what `side_by_side` computes goes there.

    All lie in one piece of memory.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    block = np.frombuffer(mmap.mmap(-1, max(1, int(ends[-1])) * 8), np.float64)
    pieces = np.split(block[: ends[-1]], ends[:-1])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def side_by_side(
    work: Callable[[Item], None],
    items: Sequence[Item],
    large: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Do ``work(item)`` for every item; in processes if it is `large` and they are safe.

    What `work` finds it writes into `shared` arrays. Matrix products run on one thread each: many
    threads on small products get in each other's way, and the number of cores must not change a
    result. `progress` is told how many items are done, about. Whatever `work` raises, this raises.
    """
    count = min(len(items), cores())
    report = progress or (lambda done: None)
    with libraries().limit(limits=1):
        if count > 1 and large and sys.platform == "linux" and threading.active_count() == 1:
            return _forked(work, items, count, report)
        if count == 1:
            for done, item in enumerate(items, 1):
                work(item)
                report(done)
            return None
        with ThreadPoolExecutor(count) as pool:
            for done, _ in enumerate(pool.map(work, items), 1):
                report(done)
    return None


def _forked(
    work: Callable[[Item], None],
    items: Sequence[Item],
    count: int,
    report: Callable[[int], None],
) -> None:
    """This process and `count` - 1 forked ones each take the next items until none is left."""
    children: list[_Child] = []
    with _Queue(len(items)) as queue:
        try:
            children += (_Child(work, items, queue) for _ in range(1, count))
            for index in queue.taken():
                work(items[index])
                report(index + 1)
            for child in children:
                child.join()
            report(len(items))
        finally:
            for child in children:
                child.end()


class _Queue:
    """Indices that processes take from a pipe, in order and each only once."""

    def __init__(self, length: int) -> None:
        self.length, self.step = length, -(-length // _PLACES)
        self.receiving, sending = os.pipe()
        os.write(sending, b"".join(n.to_bytes(4) for n in range(0, length, self.step)))
        os.close(sending)

    def __enter__(self) -> _Queue:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.receiving)

    def taken(self) -> Iterator[int]:
        """The indices that this process gets."""
        while place := os.read(self.receiving, 4):
            first = int.from_bytes(place)
            yield from range(first, min(first + self.step, self.length))


class _Child:
    """A forked process that works until the queue is empty, then says how that went."""

    def __init__(self, work: Callable[[Item], None], items: Sequence[Item], queue: _Queue) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        receiving, sending = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(sending)
            self.pipe = os.fdopen(receiving, "rb")
            return
        status = 1  # the child never returns, and runs nothing of what its parent registered
        with suppress(BaseException):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends it
            os.close(receiving)
            with os.fdopen(sending, "wb") as pipe:
                raised: Exception | None = None
                try:
                    for index in queue.taken():
                        work(items[index])
                except Exception as error:
                    raised = error
                pickle.dump(raised, pipe, protocol=pickle.HIGHEST_PROTOCOL)
            status = 0
        os._exit(status)

    def join(self) -> None:
        """Wait for the child, and raise what it raised."""
        try:
            raised = pickle.load(self.pipe)
        except (EOFError, pickle.UnpicklingError):
            raise InvariantError(
                f"a worker process ended early (out of memory?); set {CORES}=1 to do without it"
            ) from None
        if raised is not None:
            raise raised

    def end(self) -> None:
        """End the child, whatever it is doing."""
        self.pipe.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
