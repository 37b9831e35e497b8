"""The digital twin: what a head computes, as a slow loop over tokens, columns and cells.

It calls the laws with one number at a time and shares nothing else with the datapath, whose
products, panels, runs and machine code it is held against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from archsim.chip.activity import Activity
from archsim.chip.conversion import Conversion
from archsim.chip.laws import Laws
from archsim.chip.quantiser import Quantiser
from archsim.chip.readouts.law import ReadoutLaw
from archsim.datapath.ages import Ages, CellTimes

Array = NDArray[np.float64]
Scaler = Mapping[str, tuple[float, float]]

NEAR = 1e-10
"""Of a full scale: so near to a step, sums in another order may fall on its other side."""

JUMP = 1e-6
"""A law that moves by so much within `NEAR` has a step there."""


@dataclass(frozen=True)
class Twin:
    """One head, as `archsim.datapath.activity.AttentionOutput` without its heads axis.

    `doubtful` (tokens,): a value lay so near to a step of a law that either side is right.
    """

    y: Array
    activity: Activity
    scores: Array
    pulse_widths: Array
    codes: Array
    partials: Array
    doubtful: NDArray[np.bool_]


def one(value: float) -> Array:
    """A number as an array of one."""
    return np.array([value])


def pulse(readout: ReadoutLaw, score: float) -> float:
    """Pulse width / T_max of one S / S_sat."""
    return float(readout.pulses(one(score))[0])


class _Written:
    """One vector after its quantiser, number by number."""

    def __init__(self, x: Array, a: float, b: float, quantiser: Quantiser, origin: float) -> None:
        self.values: list[float] = []
        self.sum = 0.0
        for each in x:
            scaled = float(each) * a + b
            value = float(quantiser.values(quantiser.codes(one(scaled)))[0])
            self.values.append(value - origin)
            self.sum += min(max(value, quantiser.low), quantiser.high)


class _Converter:
    """One kind of signed converter in one token: what it made of charges."""

    def __init__(self, conversion: Conversion) -> None:
        self.conversion, self.longest, self.counts, self.doubtful = conversion, 0.0, 0.0, False

    def code(self, current: float) -> float:
        """The code of a summed current in uA."""
        share = current / self.conversion.full_scale
        self.longest = max(self.longest, abs(share))
        code, counts = self._convert(share)
        near = [self._convert(share + off) for off in (-NEAR, NEAR)]
        self.doubtful |= any(abs(c - code) > JUMP or n != counts for c, n in near)
        self.counts += counts
        return code

    def _convert(self, share: float) -> tuple[float, float]:
        code = self.conversion.quantiser.codes(one(share))
        return float(code[0]), float(self.conversion.counts(code.copy())[0])


class _Head:
    """One head: its cells as they were written, and what each token finds and makes."""

    def __init__(self, x: tuple[Array, Array, Array], laws: Laws, scalers: Scaler) -> None:
        mid = laws.mid_rail
        q, k, v = x
        self.laws, self.offset = laws, scalers["output"]
        self.query = [_Written(each, *scalers["q"], laws.query, 0.0) for each in q]
        self.keys = [_Written(each, *scalers["k"], laws.stored, mid) for each in k]
        self.values = [_Written(each, *scalers["v"], laws.stored, mid) for each in v]

    def cell(self, deviation: float) -> float:
        """Current in uA of one cell."""
        return float(self.laws.cell.current(one(deviation))[0])


def _fade(times: CellTimes, reader: int, writer: int) -> float:
    """What is left of a deviation that token `writer` stored when token `reader` reads it."""
    since = times.written[writer]
    if times.restored is not None:
        since = max(since, times.restored[reader])
    return math.exp(-times.rate * max(float(times.read[reader] - since), 0.0))


def attend(q: Array, k: Array, v: Array, laws: Laws, scalers: Scaler, ages: Ages) -> Twin:
    """One head over all tokens: q, k, v (tokens, features), `ages` those of this head."""
    head = _Head((q, k, v), laws, scalers)
    tokens, features = q.shape
    found = Twin(
        np.zeros((tokens, features)),
        Activity(*(np.zeros(tokens) for _ in fields(Activity))),
        np.zeros((tokens, tokens)),
        np.zeros((tokens, tokens)),
        np.zeros((tokens, laws.ring.count, features)),
        np.zeros((tokens, len(laws.readout.parts), tokens)),
        np.zeros(tokens, np.bool_),
    )
    slots: list[int | None] = [None] * laws.ring.window  # the token that each holds
    for token in range(tokens):
        slots[token % laws.ring.window] = token
        _write(found.activity, head, token, slots)
        _first_product(found, head, token, slots, ages.keys)
        _second_product(found, head, token, slots, ages.values)
    return found


def _write(activity: Activity, head: _Head, token: int, slots: list[int | None]) -> None:
    pulses = [min(max(width, 0.0), 1.0) for width in head.query[token].values]
    full = [slot for slot, holds in enumerate(slots) if holds is not None]
    activity.query_pulses[token] = sum(width > 0 for width in pulses)
    activity.longest_query[token] = max(pulses)
    activity.written_columns[token] = len(full)
    activity.written_sub_tiles[token] = len({slot // head.laws.ring.columns for slot in full})
    activity.stored_keys[token] = head.keys[token].sum
    activity.stored_values[token] = head.values[token].sum


def _first_product(
    found: Twin, head: _Head, token: int, slots: list[int | None], times: CellTimes
) -> None:
    """Every column that holds a token: its charge, its codes if it has any, its pulse."""
    readout, activity = head.laws.readout, found.activity
    query, longest, drawn, pulses = head.query[token].values, 0.0, 0.0, 0
    converter = None if readout.conversion is None else _Converter(readout.conversion)
    for writer in slots:
        if writer is None:
            continue
        left, total = _fade(times, token, writer), 0.0
        for part, (first, stop) in enumerate(readout.parts):
            charges = []
            for n in range(first, stop):
                current = head.cell(head.keys[writer].values[n] * left)
                charges.append(query[n] * current)
                drawn += min(max(query[n], 0.0), 1.0) * abs(current)
            charge = math.fsum(charges)
            if converter is not None:
                charge = found.partials[token, part, writer] = converter.code(charge)
            total += charge
        score = total / readout.saturation
        if converter is not None:
            out = np.zeros(1)
            readout.score(one(total), out)
            score = float(out[0])
        width = pulse(readout, score)
        near = [pulse(readout, score + off) for off in (-NEAR, NEAR)]
        found.doubtful[token] |= any(
            abs(each - width) > JUMP or (readout.widths is not None and (each > 0) != (width > 0))
            for each in near
        )
        found.scores[token, writer] = score * readout.saturation
        found.pulse_widths[token, writer] = width
        longest, pulses = max(longest, width), pulses + (width != 0)
    activity.key_current[token], activity.longest_score[token] = drawn, min(longest, 1.0)
    activity.score_pulses[token] = 0 if readout.widths is None else pulses
    if converter is not None:
        activity.longest_partial[token] = min(converter.longest, 1.0)
        activity.partial_counts[token] = converter.counts
        found.doubtful[token] |= converter.doubtful


def _second_product(
    found: Twin, head: _Head, token: int, slots: list[int | None], times: CellTimes
) -> None:
    """Every sub-tile's bit lines: their charge, their codes, and the sum of those."""
    laws, columns, drawn = head.laws, head.laws.ring.columns, 0.0
    converter = _Converter(laws.output)
    for n in range(laws.features):
        total = 0.0
        for sub_tile in range(laws.ring.count):
            charges = []
            for writer in slots[sub_tile * columns : (sub_tile + 1) * columns]:
                if writer is None:
                    continue
                current = head.cell(head.values[writer].values[n] * _fade(times, token, writer))
                charges.append(current * found.pulse_widths[token, writer])
                drawn += abs(charges[-1])
            if charges:
                code = converter.code(math.fsum(charges))
                found.codes[token, sub_tile, n] = code
                total += code
        a, b = head.offset
        found.y[token, n] = a * float(laws.output.quantiser.values(one(total))[0]) + b
    found.activity.value_current[token] = drawn
    found.activity.longest_output[token] = min(converter.longest, 1.0)
    found.activity.counts[token] = converter.counts
    found.doubtful[token] |= converter.doubtful
