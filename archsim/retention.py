"""How long cells must hold: retention against the time that a whole token takes.

A model's own decay a token is one assumption, the time of a token another. The published decay
takes everything but attention to be free; the hardware's ``digital`` section says what the rest of
a token takes. Here the two are set beside each other, and ``retention.token_period: auto`` is
worked out.
"""

from __future__ import annotations

import functools
import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from archsim.chip.activity import Activity
from archsim.chip.head import Head
from archsim.chip.refresh import time_between
from archsim.chip.retention import decay_per_token
from archsim.config.transformer import GPT2_SMALL, TransformerShape
from archsim.config.voltages import VoltageRange
from archsim.errors import ConfigError
from archsim.function import run_function
from archsim.hardware.calibration_workload import calibration_trace
from archsim.hardware.digital import DigitalConfig
from archsim.hardware.load import Hardware
from archsim.timing.analysis import slowest_ns
from archsim.timing.declaration import declare
from archsim.timing.run import run
from archsim.units import MICROSECOND, MILLISECOND, NANOSECOND

SHOWN = 1e-3
"""Times are shown to four digits: who sets the one that is shown means it."""

FORGOTTEN = 1.0
"""Window x token time / tau above which the oldest tokens keep less than 1/e of their deviation."""


@dataclass(frozen=True)
class TokenTime:
    """One token of a whole model in s, of each of `batch` sequences: attention, then the rest.

    Cells of every sequence age by the whole step: its arrays wait while the engine serves all.
    """

    shape: TransformerShape
    digital: DigitalConfig
    attention_s: float
    rest_s: float
    batch: int = 1

    @property
    def total_s(self) -> float:
        """Of the whole token, or step."""
        return self.attention_s + self.rest_s

    @property
    def words(self) -> str:
        """Whose token, and what its time is made of."""
        digital = self.digital
        streamed = digital.weights == "streamed"
        engine = f"{digital.rate * 1e-12:,.4g} TMAC/s" + (
            f" and {digital.weight_bandwidth * 1e-9:,.4g} GB/s, weights streamed"
            if streamed
            else ", weights resident"
        )
        whose = "a whole token" if self.batch == 1 else f"a step of {self.batch:,} sequences"
        attention, rest = (MICROSECOND.of(each) for each in (self.attention_s, self.rest_s))
        return (
            f"{whose} of {self.shape.name}: {attention:,.4g} us of attention "
            f"and {rest:,.4g} us of the rest at {engine} (assumed)"
        )


def token_time(
    hardware: Hardware, shape: TransformerShape = GPT2_SMALL, batch: int = 1
) -> TokenTime:
    """The time of a whole token, as `archsim compare --scope model` has it at this batch.

    Attention is the calibration workload's slowest token with a full window. Raises ConfigError for
    a window that would take too long to fill where its values decide the time.
    """
    # one attention of the calibration workload, in the very arithmetic of the comparison
    attention = shape.layers * NANOSECOND.si(attention_ns(hardware, shape))
    digital = hardware.config.digital
    return TokenTime(shape, digital, attention, digital.step_s(shape, batch), batch)


@functools.lru_cache(maxsize=16)
def attention_ns(hardware: Hardware, shape: TransformerShape = GPT2_SMALL) -> float:
    """`archsim.calibration.Calibration.attention_ns`, without its energy.

    Where phases do not end with their pulses no value decides it, and two tokens tell it all. Else
    the whole workload runs, which takes longer than many a simulation: once for each hardware.
    """
    config = hardware.changed({"retention.model": "off"}).config
    head = Head(config, shape.head_dim)
    if config.controller.phases == "worst_case":
        activities, first = [Activity.busiest(shape.heads, 2)], 1
    else:
        trace = calibration_trace(config, shape.heads, shape.head_dim)
        activities = [
            layer.activity for layer in run_function(trace, head.laws, VoltageRange.of(config.cell))
        ]
        first = config.window - 1
    declaration = declare(head, activities, 1)
    schedule, _ = run(declaration, "auto", "contested")
    return slowest_ns(declaration, schedule, first)


def with_token_period(hardware: Hardware) -> Hardware:
    """The same hardware with ``retention.token_period: auto`` worked out, where it is read.

    Whoever makes a head of a config takes it from here. Raises ConfigError as `token_time` does.
    """
    if not hardware.config.retention.takes_whole_token:
        return hardware
    key = "retention.token_period"
    try:
        seconds = token_time(hardware).total_s
    except ConfigError as error:
        raise ConfigError(f"{key} auto: {error}") from None
    provenance = deepcopy(dict(hardware.provenance))
    resolved = hardware.changed({key: f"{seconds!r} s"})
    document = replace(resolved.document, provenance=provenance)
    return Hardware(resolved.name, resolved.config, provenance, document)


@dataclass(frozen=True)
class Fading:
    """What a decay a token (1.6e-4, say) does to a window of tokens."""

    decay_per_token: float
    window: int
    refreshed: float = math.inf
    """Age in tau by which cells are refreshed."""

    @property
    def over_window(self) -> float:
        """Window x token time / tau: 1 where a window lasts as long as tau."""
        return self.window * self.decay_per_token

    @property
    def oldest(self) -> float:
        """Share of its deviation that the oldest token of the window still has.

        Where cells are refreshed: just before that, which may have to wait for a token.
        """
        return math.exp(
            -min(self.decay_per_token * (self.window - 1), self.refreshed + self.decay_per_token)
        )

    @property
    def forgets(self) -> bool:
        """Whether the oldest cells keep less than 1/e."""
        return min(self.over_window, self.refreshed + self.decay_per_token) > FORGOTTEN

    def document(self) -> dict[str, float]:
        """With units in the keys, where they have any."""
        return {
            "decay_per_token": self.decay_per_token,
            "window_times_token_time_over_tau": self.over_window,
            "oldest_token_survives": self.oldest,
        }


@dataclass(frozen=True)
class Retention:
    """The decay that a run used (None: as the simulated clock had it), and a whole token's.

    `token` is None where its time is not known, for the reason `unknown`.
    """

    model: str
    window: int
    tau: float
    used: Fading | None
    token: TokenTime | None
    unknown: str = ""
    refreshed: float = math.inf
    """Seconds from one refresh of a cell to the next."""

    @property
    def whole(self) -> Fading | None:
        """What the time of a whole token does at `tau`."""
        if self.token is None:
            return None
        return Fading(self.token.total_s / self.tau, self.window, self.refreshed / self.tau)

    @property
    def warning(self) -> str | None:
        """What a reader must know where a window outlasts the cells; else None."""
        whole, used = self.whole, self.used
        if whole is None or self.token is None or not whole.forgets:
            return None
        many = self.token.batch > 1
        each = f"step of {self.token.batch:,} sequences" if many else "token"
        lasts = whole.over_window
        if whole.refreshed < lasts:
            often = f"refreshed every {whole.refreshed:,.3g} tau"
            return f"{often}, cells are forgotten before, and are taken to be restored all the same"
        start = (
            f"at {MICROSECOND.of(self.token.total_s):,.4g} us a {each} the window lasts "
            f"{lasts:,.{'0f' if lasts >= 1000 else '3g'}} tau"
        )
        if used is not None and used.decay_per_token >= whole.decay_per_token * (1 - SHOWN):
            return f"{start}: its oldest tokens are forgotten"
        return (
            f"{start}: its oldest tokens are forgotten, and no loss or error shown here has that "
            "in it (archsim retention: what cells must hold)"
        )

    def document(self) -> dict[str, Any]:
        """The value of ``retention`` in every JSON document."""
        used = None
        if self.used is not None:
            used = {
                "token_time_us": MICROSECOND.of(self.used.decay_per_token * self.tau),
                **self.used.document(),
            }
        whole: dict[str, Any] | None = None
        if self.token is not None and self.whole is not None:
            whole = {
                "token_time_us": MICROSECOND.of(self.token.total_s),
                "attention_us": MICROSECOND.of(self.token.attention_s),
                "rest_us": MICROSECOND.of(self.token.rest_s),
                "batch": self.token.batch,
                **self.whole.document(),
                "of": self.token.words,
            }
        return {
            "model": self.model,
            "window": self.window,
            "tau_ms": MILLISECOND.of(self.tau),
            "used": used,
            "whole_token": whole,
            "whole_token_unknown": self.unknown or None,
            "warning": self.warning,
        }


def retention_of(hardware: Hardware, period: float | None = None, batch: int = 1) -> Retention:
    """What `hardware` forgets in a run, and would at a whole token's time.

    `period`: seconds between tokens of a run whose ages come from the simulated clock, where known.
    `batch`: sequences that the whole token's step serves.
    """
    config = hardware.config
    tau, window = config.retention.tau, config.window
    token, unknown = None, ""
    try:
        token = token_time(hardware, batch=batch)
    except ConfigError as error:
        unknown = str(error)
    every = time_between(config)
    known = None if period is None else period / tau
    if config.retention.model != "simulated":
        known = decay_per_token(with_token_period(hardware).config)
    used = None if known is None else Fading(known, window, every / tau)
    return Retention(config.retention.model, window, tau, used, token, unknown, every)
