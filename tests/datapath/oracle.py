"""The gain-cell attention, once more, slowly: the independent truth for the datapath tests.

Quantised from the functional model alone, without reading the implementation: plain loops over
head, token, physical slot and feature. Numpy only holds the arrays that go in and come out; the
arithmetic is Python's float64.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

MID_RAIL = 0.45  # V
FULL_RAIL = 0.9  # V
POLYNOMIAL = (0.52136361, 13.61226063, -2.62044562, 46.05483778)  # uA / V^p
LINEAR = (0.0, 19.3, 0.0, 0.0)
DEFAULT_SCALERS = {"q": (1.0, 0.0), "k": (1.0, 0.45), "v": (1.0, 0.45), "output": (1.0, 0.0)}

Scalers = Mapping[str, tuple[object, object]]


@dataclass(frozen=True)
class Parameters:
    """What the oracle needs to know of the hardware.

    `decay_form` is "deviation" (the model: power p of V - 0.45 decays as delta^p), or "current"
    (the older model of the golden vectors: the whole current, p = 0 too, decays as delta). With
    `rows`, fewer than the features, each array converts the sum over its own rows, the codes are
    added, and the activation of their sum is quantised again; with `digitises` one array that holds
    all features does so too. Beyond `knee`, a share of full scale, a pulse grows by
    `slope_beyond_knee` of what the score does.
    """

    window: int
    columns: int
    levels_query: int | None = 16
    levels_key_value: int | None = 8
    levels_output: int | None = 32
    cell: str = "polynomial"
    decay_per_token: float = 0.0
    saturation_score: float = 80.0
    saturation_output: float = 40.0
    output_clip: bool = True
    coefficients: tuple[float, float, float, float] | None = None  # None: those of `cell`
    decay_form: str = "deviation"
    rows: int | None = None
    levels_partial: int | None = 32
    saturation_partial: float = 80.0
    levels_pulse: int | None = 16
    digitises: bool = False
    knee: float = 1.0
    slope_beyond_knee: float = 0.0

    def __post_init__(self) -> None:
        if self.window < 1 or self.columns < 1:
            raise ValueError("window and columns must be at least 1")
        if self.cell not in ("polynomial", "linear"):
            raise ValueError(f"unknown cell {self.cell!r}")
        if self.decay_form not in ("deviation", "current"):
            raise ValueError(f"unknown decay form {self.decay_form!r}")
        if self.levels_output is not None and not self.output_clip:
            raise ValueError("output_clip=False needs levels_output=None")

    @property
    def subtiles(self) -> int:
        return math.ceil(self.window / self.columns)

    @property
    def current(self) -> tuple[float, float, float, float]:
        if self.coefficients is not None:
            return self.coefficients
        return POLYNOMIAL if self.cell == "polynomial" else LINEAR


@dataclass
class Slot:
    """One physical column of a head: a stored token."""

    token: int  # index of the token that was written
    key: list[float]  # V
    value: list[float]  # V


@dataclass(frozen=True)
class Result:
    """h heads, n tokens, d features, t sub-tiles. Codes are None where levels are None."""

    y: np.ndarray  # (h, n, d)
    scores: np.ndarray  # S_raw (h, n, n), query token by stored token; NaN where not stored
    widths: np.ndarray  # P (h, n, n); 0 where not stored
    outputs_raw: np.ndarray  # A_raw (h, n, t, d), uA
    outputs: np.ndarray  # A (h, n, t, d), after clip and quantiser
    output_codes: np.ndarray | None  # (h, n, t, d)
    query_codes: np.ndarray | None  # (h, n, d)
    key_codes: np.ndarray | None
    value_codes: np.ndarray | None
    slot_tokens: np.ndarray  # (n, window): the token each slot holds at that token's read, or -1
    partials: np.ndarray  # (h, n, arrays, n): partial sums / full scale, before the clamp
    partial_codes: np.ndarray  # of the same shape; 0 where not stored, or without levels
    # "query", "key", "value" (h, n, d), "output" (h, n, t, d), "partial" (h, n, arrays, n),
    # "pulse" (h, n, n): see `edge_distance`
    edge_distance: dict[str, np.ndarray] = field(default_factory=dict)


def clip(x: float, lo: float, hi: float) -> float:
    if x < lo:
        return lo
    if x > hi:
        return hi
    return x


def quant_code(x: float, n: int, lo: float, hi: float) -> int:
    """The code; Python's `round` is round half to even."""
    x = clip(x, lo, hi)
    return round((x * (n - 1)) / (hi - lo))


def quant(x: float, n: int, lo: float, hi: float) -> float:
    return quant_code(x, n, lo, hi) * (hi - lo) / (n - 1)


@lru_cache
def rounding_edges(n: int, lo: float, hi: float) -> tuple[float, ...]:
    """Where the code changes, in units of code: the k + 0.5 that lie inside the clamp.

    A clamp limit that is itself a k + 0.5 is an edge only where the clamped value rounds outward:
    32 levels on [-1, 1] clamp to 15.5, which rounds to 16, so 15.5 is an edge; 30 levels clamp
    to 14.5, which rounds to 14 like all below it, so 14.5 is none.
    """
    lowest = (lo * (n - 1)) / (hi - lo)
    highest = (hi * (n - 1)) / (hi - lo)
    edges = []
    for k in range(math.floor(lowest) - 1, math.ceil(highest) + 1):
        edge = k + 0.5
        if (
            lowest < edge < highest
            or (edge == highest and round(edge) > edge)
            or (edge == lowest and round(edge) < edge)
        ):
            edges.append(edge)
    return tuple(edges)


def edge_distance(x: float, n: int, lo: float, hi: float) -> float:
    """How far x, *before the clamp*, lies from the nearest value where its code changes.

    In units of code. Before the clamp, so that a value deep in saturation is far from an edge
    (a saturated output clamps to 15.5 exactly, and would otherwise always be excused).
    """
    position = (x * (n - 1)) / (hi - lo)
    distance = math.inf
    for edge in rounding_edges(n, lo, hi):
        distance = min(distance, abs(position - edge))
    return distance


def scaler(scalers: Scalers | None, name: str, heads: int) -> list[tuple[float, float]]:
    """(a, b) of every head; a and b may be one number or one a head."""
    a, b = DEFAULT_SCALERS[name]
    if scalers is not None:
        unknown = set(scalers) - set(DEFAULT_SCALERS)
        if unknown:
            raise ValueError(f"unknown scalers {sorted(unknown)}")
        a, b = scalers.get(name, (a, b))
    a_of = np.broadcast_to(np.asarray(a, dtype=np.float64), (heads,)).tolist()
    b_of = np.broadcast_to(np.asarray(b, dtype=np.float64), (heads,)).tolist()
    return list(zip(a_of, b_of, strict=True))


def activation(score: float, parameters: Parameters) -> float:
    """The pulse width of S in uA, as a share of T_max."""
    x, knee = score / parameters.saturation_score, parameters.knee
    if x <= knee:
        return max(x, 0.0)
    return min(knee + parameters.slope_beyond_knee * (x - knee), 1.0)


def cell_currents(
    parameters: Parameters,
    drives: Sequence[float],
    volts: Sequence[float],
    decays: Sequence[float],
) -> float:
    """sum_p C_p * sum_n drive_n * delta_n^p * (V_n - 0.45)^p: one bit line, in uA."""
    terms = []
    for drive, volt, decay in zip(drives, volts, decays, strict=True):
        for p in range(4):
            decayed = decay**p if parameters.decay_form == "deviation" else decay
            terms.append(parameters.current[p] * drive * decayed * (volt - MID_RAIL) ** p)
    return math.fsum(terms)


def _as_input(name: str, x: object, like: np.ndarray | None = None) -> np.ndarray:
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 3 or (like is not None and array.shape != like.shape):
        raise ValueError(f"{name} must be (heads, tokens, d), all alike; got {array.shape}")
    return array


def attend(
    q: object,
    k: object,
    v: object,
    parameters: Parameters,
    scalers: Scalers | None = None,
    ages: tuple[np.ndarray, np.ndarray] | None = None,
) -> Result:
    """The attention of q, k, v (heads, tokens, d), as the model's projection makes them.

    `ages` of keys and values (h, query token, stored token) in units of `decay_per_token`'s token;
    by default both are the tokens since the write.
    """
    q = _as_input("q", q)
    k = _as_input("k", k, q)
    v = _as_input("v", v, q)
    heads, tokens, d = q.shape
    par = parameters
    subtiles = par.subtiles
    ab = {name: scaler(scalers, name, heads) for name in DEFAULT_SCALERS}

    y = np.zeros((heads, tokens, d))
    scores = np.full((heads, tokens, tokens), np.nan)
    widths = np.zeros((heads, tokens, tokens))
    outputs_raw = np.zeros((heads, tokens, subtiles, d))
    outputs = np.zeros((heads, tokens, subtiles, d))
    output_codes = np.zeros((heads, tokens, subtiles, d), dtype=np.int64)
    codes = {n: np.zeros((heads, tokens, d), dtype=np.int64) for n in ("query", "key", "value")}
    slot_tokens = np.full((tokens, par.window), -1, dtype=np.int64)
    edges = {n: np.full((heads, tokens, d), np.inf) for n in ("query", "key", "value")}
    edges["output"] = np.full((heads, tokens, subtiles, d), np.inf)
    rows = d if par.rows is None else min(par.rows, d)
    arrays = math.ceil(d / rows)
    partials = np.zeros((heads, tokens, arrays, tokens))
    partial_codes = np.zeros(partials.shape, dtype=np.int64)
    edges["partial"] = np.full(partials.shape, np.inf)
    edges["pulse"] = np.full(widths.shape, np.inf)

    for h in range(heads):
        slots: list[Slot | None] = [None] * par.window  # nothing written yet
        for i in range(tokens):
            # Scale, clamp, quantise this token's q, k and v.
            token = {}
            for name, short, x, levels, hi in (
                ("query", "q", q, par.levels_query, 1.0),
                ("key", "k", k, par.levels_key_value, FULL_RAIL),
                ("value", "v", v, par.levels_key_value, FULL_RAIL),
            ):
                a, b = ab[short][h]
                token[name] = []
                for f in range(d):
                    scaled = a * float(x[h, i, f]) + b
                    if levels is None:
                        token[name].append(clip(scaled, 0.0, hi))
                    else:
                        token[name].append(quant(scaled, levels, 0.0, hi))
                        codes[name][h, i, f] = quant_code(scaled, levels, 0.0, hi)
                        edges[name][h, i, f] = edge_distance(scaled, levels, 0.0, hi)

            # Write it into its slot, over the oldest; then read.
            slots[i % par.window] = Slot(token=i, key=token["key"], value=token["value"])

            # First product and activation, slot by slot.
            delta = [0.0] * par.window
            value_delta = [0.0] * par.window
            for s in range(par.window):
                slot = slots[s]
                if slot is None:
                    continue
                j = slot.token
                slot_tokens[i, s] = j
                age, value_age = (i - j, i - j) if ages is None else (x[h, i, j] for x in ages)
                delta[s] = math.exp(-par.decay_per_token * age)
                value_delta[s] = math.exp(-par.decay_per_token * value_age)
                if arrays == 1 and not par.digitises:
                    score = cell_currents(par, token["query"], slot.key, [delta[s]] * d)
                    scores[h, i, j] = score
                    widths[h, i, j] = activation(score, par)
                    continue

                # Split: array by array, then digitally.
                total = 0.0
                for a in range(arrays):
                    first, stop = a * rows, min(a * rows + rows, d)
                    drives, volts = token["query"][first:stop], slot.key[first:stop]
                    current = cell_currents(par, drives, volts, [delta[s]] * (stop - first))
                    part = current / par.saturation_partial
                    partials[h, i, a, j] = part
                    if par.levels_partial is not None:
                        n = par.levels_partial
                        partial_codes[h, i, a, j] = quant_code(part, n, -1.0, 1.0)
                        edges["partial"][h, i, a, j] = edge_distance(part, n, -1.0, 1.0)
                    else:
                        total += part
                if par.levels_partial is not None:  # counts are added as integers
                    counts = int(partial_codes[h, i, :, j].sum())
                    total = counts * 2.0 / (par.levels_partial - 1)
                score = total * par.saturation_partial
                scores[h, i, j] = score
                width = activation(score, par)
                if par.levels_pulse is not None:
                    n = par.levels_pulse
                    edges["pulse"][h, i, j] = edge_distance(width, n, 0.0, 1.0)
                    width = quant(width, n, 0.0, 1.0)
                widths[h, i, j] = width

            # Second product, clip and quantise, sub-tile by sub-tile.
            for t in range(subtiles):
                for f in range(d):
                    drives, volts, decays = [], [], []
                    for s in range(par.window):
                        slot = slots[s]
                        if s // par.columns != t or slot is None:
                            continue
                        drives.append(float(widths[h, i, slot.token]))
                        volts.append(slot.value[f])
                        decays.append(value_delta[s])
                    raw = cell_currents(par, drives, volts, decays)
                    out = raw / par.saturation_output
                    outputs_raw[h, i, t, f] = raw
                    if par.levels_output is not None:
                        output_codes[h, i, t, f] = quant_code(out, par.levels_output, -1.0, 1.0)
                        edges["output"][h, i, t, f] = edge_distance(
                            out, par.levels_output, -1.0, 1.0
                        )
                        out = quant(out, par.levels_output, -1.0, 1.0)
                    elif par.output_clip:
                        out = clip(out, -1.0, 1.0)
                    outputs[h, i, t, f] = out

            # Digital adder over the sub-tiles, and the output scaler.
            a, b = ab["output"][h]
            for f in range(d):
                total = math.fsum(float(outputs[h, i, t, f]) for t in range(subtiles))
                y[h, i, f] = a * total + b

    return Result(
        y=y,
        scores=scores,
        widths=widths,
        outputs_raw=outputs_raw,
        outputs=outputs,
        output_codes=None if par.levels_output is None else output_codes,
        query_codes=None if par.levels_query is None else codes["query"],
        key_codes=None if par.levels_key_value is None else codes["key"],
        value_codes=None if par.levels_key_value is None else codes["value"],
        slot_tokens=slot_tokens,
        partials=partials,
        partial_codes=partial_codes,
        edge_distance=edges,
    )


def ideal(
    q: object,
    k: object,
    v: object,
    window: int,
    scalers: Scalers | None = None,
    saturation_score: float = 80.0,
    saturation_output: float = 40.0,
) -> np.ndarray:
    """y (heads, tokens, d) of perfect linear cells: no clamp, quantiser, decay or output clip."""
    q = _as_input("q", q)
    k = _as_input("k", k, q)
    v = _as_input("v", v, q)
    heads, tokens, d = q.shape
    ab = {name: scaler(scalers, name, heads) for name in DEFAULT_SCALERS}
    slope = LINEAR[1]
    y = np.zeros((heads, tokens, d))
    for h in range(heads):
        (a_q, b_q), (a_k, b_k), (a_v, b_v), (a_o, b_o) = (ab[name][h] for name in DEFAULT_SCALERS)
        for i in range(tokens):
            total = [0.0] * d
            for j in range(max(0, i - window + 1), i + 1):
                score = 0.0
                for f in range(d):
                    q1 = a_q * float(q[h, i, f]) + b_q
                    k1 = a_k * float(k[h, j, f]) + b_k
                    score += slope * q1 * (k1 - MID_RAIL)
                width = clip(score / saturation_score, 0.0, 1.0)
                for f in range(d):
                    v1 = a_v * float(v[h, j, f]) + b_v
                    total[f] += width * slope * (v1 - MID_RAIL) / saturation_output
            for f in range(d):
                y[h, i, f] = a_o * total[f] + b_o
    return y
