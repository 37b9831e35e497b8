"""A process that answers jobs with the code of one checkout, and may break down doing so."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from archsim.errors import ConfigError, one_line

SCRIPT = Path(__file__).with_name("snapshot.py")
START_S = 120.0
"""Far more than an interpreter takes to import a checkout."""


def environment(checkout: Path) -> dict[str, str]:
    """Variables of a process that runs a checkout's code, on one core and in one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHSIM_")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own = {"PYTHONPATH": str(checkout), "ARCHSIM_CORES": "1", "PYTHONHASHSEED": "0"}
    return kept | threads | own


def checked(checkout: Path) -> Path:
    """The folder of a checkout, absolute; raises ConfigError unless archsim's source lies in it."""
    if not (checkout / "archsim" / "__init__.py").is_file():
        raise ConfigError(f"{checkout}: no checkout of archsim (no archsim/__init__.py in it)")
    return checkout.resolve()


class Worker:
    """One checkout's process; started again after a breakdown.

    Raises ConfigError where it does not start, or runs the code of another place.
    """

    def __init__(self, checkout: Path, timeout_s: float) -> None:
        self.checkout, self.timeout_s = checked(checkout), timeout_s
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """What the checkout answers; an `error` nobody meant where it gives no answer in time."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is gone: so says the answer
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        line = self._line(self.timeout_s)
        if line is not None:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._stop()
        what = f"no answer in {self.timeout_s:g} s" if status is None else f"exit status {status}"
        return {"error": f"broke down: {what}", "message": self._last_words(), "refused": False}

    def _start(self) -> subprocess.Popen[bytes]:
        with self._errors.open("wb") as errors:
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(self.checkout),
                cwd=self._folder.name,
                start_new_session=True,
            )
        self._unread = b""
        line = self._line(START_S)
        if line is None:
            self._stop()
            raise ConfigError(f"{self.checkout}: archsim does not start: {self._last_words()}")
        package = Path(json.loads(line)["package"])
        if package != self.checkout / "archsim":
            self._stop()
            raise ConfigError(f"{self.checkout}: Python takes archsim from {package} instead")
        return process

    @property
    def _errors(self) -> Path:
        return Path(self._folder.name) / "stderr.txt"

    def _last_words(self) -> str:
        lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
        return one_line(next((line for line in reversed(lines) if line.strip()), ""))

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line of the process; None if it ended, or said nothing for so long."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(until - time.monotonic(), 0)):
                    return None
                found = os.read(self._process.stdout.fileno(), 1 << 20)
                if not found:
                    return None
                self._unread += found
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _stop(self) -> int | None:
        """End the process and what it started; its exit status if it had ended by itself."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()  # without more jobs it ends by itself
        try:
            status: int | None = process.wait(0.5)
        except subprocess.TimeoutExpired:
            status = None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return status
