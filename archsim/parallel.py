"""Independent pieces of work side by side, on every core: in forked processes, or in threads.

numpy gives up the interpreter's lock and takes it back around every operation; with operations as
short as a panel's, two threads then spend a third of their time waiting for each other. Processes
do not, and a forked one has all its input already. But forking is safe only where no other Python
thread may hold a lock, so elsewhere, and for small work, it is threads.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast

from threadpoolctl import ThreadpoolController

from archsim.errors import ConfigError, InvariantError

Item = TypeVar("Item")
Value = TypeVar("Value")

CORES = "ARCHSIM_CORES"
"""Environment variable: how many cores to use, all of them by default."""


def cores() -> int:
    """Cores to use; raises ConfigError if `CORES` is set to anything but a number from 1."""
    asked = os.environ.get(CORES, "")
    if not asked:
        return os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise ConfigError(f"{CORES}={asked[:20]}: use a number of at least 1")
    return int(asked)


def side_by_side(
    work: Callable[[Item], Value],
    items: Sequence[Item],
    large: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Value]:
    """``work(item)`` of every item, in order; processes if it is `large` and they are safe.

    Matrix products run on one thread each: many threads on small products get in each other's way,
    and the number of cores must not change a result. `progress` is told how many items are done,
    about. Whatever `work` raises, this raises.
    """
    count = min(len(items), cores())
    report = progress or (lambda done: None)
    with _blas().limit(limits=1):
        if count == 1:
            return _counted(map(work, items), report)
        if large and sys.platform == "linux" and threading.active_count() == 1:
            return _forked(work, items, count, report)
        with ThreadPoolExecutor(count) as pool:
            return _counted(pool.map(work, items), report)


def _counted(results: Iterable[Value], report: Callable[[int], None], each: int = 1) -> list[Value]:
    values = []
    for done, value in enumerate(results, 1):
        values.append(value)
        report(done * each)
    return values


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _forked(
    work: Callable[[Item], Value],
    items: Sequence[Item],
    count: int,
    report: Callable[[int], None],
) -> list[Value]:
    """This process does every `count`-th item, from the first on; a forked one each the others."""
    children: list[_Child] = []
    try:
        children += (_Child(work, items[start::count]) for start in range(1, count))
        values: list[Any] = [None] * len(items)
        values[::count] = _counted(map(work, items[::count]), report, count)
        for start, child in enumerate(children, 1):
            values[start::count] = child.values()
        report(len(items))
        return values
    finally:
        for child in children:
            child.end()


class _Child:
    """A forked process that works through some items, then sends back what came out."""

    def __init__(self, work: Callable[[Item], Value], items: Sequence[Item]) -> None:
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
                result: tuple[bool, Any]
                try:
                    result = True, [work(item) for item in items]
                except Exception as error:
                    result = False, error
                pickle.dump(result, pipe, protocol=pickle.HIGHEST_PROTOCOL)
            status = 0
        os._exit(status)

    def values(self) -> list[Any]:
        """What the child found; waits for it, and raises what it raised."""
        try:
            fine, value = pickle.load(self.pipe)
        except (EOFError, pickle.UnpicklingError):
            raise InvariantError(
                f"a worker process ended early (out of memory?); set {CORES}=1 to do without it"
            ) from None
        if not fine:
            raise value
        return cast("list[Any]", value)

    def end(self) -> None:
        """End the child, whatever it is doing."""
        self.pipe.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
