"""Ages from real times, laws looked up cell by cell, precision, compiled code, threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.chip.cell import Cell
from archsim.chip.cells.table import CurrentTable
from archsim.chip.head import Head
from archsim.datapath import attention, fused, one_head, scalers
from archsim.datapath.ages import Ages, CellTimes
from archsim.datapath.attention import AttentionOutput, LayerInput, attend_layer, attend_layers
from archsim.errors import ConfigError
from archsim.machine import compiled
from archsim.machine.compiled import SWITCH, available
from archsim.machine.parallel import CORES

from . import oracle

EDGE = 1e-9
needs_numba = pytest.mark.skipif(not available(), reason="numba (extra [fast]) is not installed")
SMALL = {"array.rows": 4, "array.columns": 4, "window": 10}


def small_head(**overrides: Any) -> Head:
    return Head(archsim.load_hardware(overrides={**SMALL, **overrides}).config)


def draw(seed: int, tokens: int = 30, features: int = 4, heads: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.3, (heads, tokens, features)) + shift for shift in (0.5, 0.0, 0.0)]


def parameters(head: Head, **changes: Any) -> oracle.Parameters:
    return oracle.Parameters(
        window=head.sub_tiles.window,
        columns=head.sub_tiles.columns,
        cell="linear" if len(head.cell.law.coefficients) == 2 else "polynomial",
        **changes,
    )


def assert_codes(got: AttentionOutput, expected: oracle.Result) -> None:
    assert got.codes is not None
    assert got.scores is not None
    excused = expected.edge_distance["output"] <= EDGE
    assert np.array_equal(got.codes[~excused], expected.output_codes[~excused])
    assert excused.mean() < 0.02
    np.testing.assert_allclose(got.scores, np.nan_to_num(expected.scores), rtol=1e-10, atol=1e-9)


@dataclass
class Times:
    """Times of a layer, and the ages that follow."""

    ages: Ages
    by_pair: tuple[np.ndarray, np.ndarray]


def times(seed: int, heads: int, tokens: int, tau: float, longest_gap: float) -> Times:
    """Writes and reads in program order with gaps of very different lengths."""
    rng = np.random.default_rng(seed)
    gaps = 10.0 ** rng.uniform(-9, np.log10(longest_gap), (4, heads, tokens))
    before = np.cumsum(gaps.sum(axis=0), axis=1) - gaps.sum(axis=0)
    written, read, value_written, value_read = before + np.cumsum(gaps, axis=0)
    keys, values = CellTimes(read, written, 1 / tau), CellTimes(value_read, value_written, 1 / tau)
    pairs = [
        np.maximum(t.read[:, :, None] - t.written[:, None, :], 0) / tau for t in (keys, values)
    ]
    return Times(Ages(keys, values), (pairs[0], pairs[1]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    window=st.integers(1, 12),
    columns=st.integers(1, 6),
    tau=st.sampled_from([1e-9, 1e-6, 5e-3, 1e3]),
    gap=st.sampled_from([1e-8, 1e-3, 10.0]),
    model=st.sampled_from(["polynomial", "linear"]),
)
def test_real_times_give_the_oracles_codes(
    seed: int, window: int, columns: int, tau: float, gap: float, model: str
) -> None:
    """However fast the decay and long the gaps: factors are rebased before they overflow."""
    head = small_head(**{"window": window, "array.columns": columns, "cell.model": model})
    q, k, v = draw(seed, tokens=20)
    stamped = times(seed, 2, 20, tau, gap)
    with np.errstate(over="raise", invalid="raise"):
        got = attend_layer(q, k, v, head.laws, details=True, ages=stamped.ages)
    par = parameters(head, decay_per_token=1.0)
    assert_codes(got, oracle.attend(q, k, v, par, ages=stamped.by_pair))


def test_keys_and_values_have_their_own_ages() -> None:
    """Old keys with fresh values and the other way round do not give the same."""
    head, (q, k, v) = small_head(), draw(1)
    tokens = np.broadcast_to(np.arange(30.0), (2, 30))
    fresh, old = CellTimes(tokens, tokens, 0.0), CellTimes(tokens, tokens, 0.3)
    results = [
        attend_layer(q, k, v, head.laws, details=True, ages=ages)
        for ages in (Ages(old, fresh), Ages(fresh, old), Ages(fresh, fresh), Ages(old, old))
    ]
    scores = [r.scores for r in results]
    assert np.allclose(scores[0], scores[3])  # type: ignore[arg-type]
    assert np.allclose(scores[1], scores[2])  # type: ignore[arg-type]
    assert len({r.y.tobytes() for r in results}) == 4


def test_ages_per_token_are_the_default() -> None:
    head, (q, k, v) = small_head(**{"retention.decay_per_token": 0.1}), draw(2)
    default = attend_layer(q, k, v, head.laws)
    given_ = attend_layer(q, k, v, head.laws, ages=Ages.per_token(2, 30, 0.1))
    assert np.array_equal(default.y, given_.y)
    seconds = np.arange(30) * 65e-9
    nominal = CellTimes(*(np.broadcast_to(seconds, (2, 30)),) * 2, 0.1 / 65e-9)
    assert np.array_equal(
        attend_layer(q, k, v, head.laws, ages=Ages(nominal, nominal)).y, default.y
    )


@pytest.mark.parametrize("longest_gap", [1e-7, 1.0])
def test_currents_follow_the_ages(longest_gap: float) -> None:
    """The energy of the reads comes from |I| at the same ages, also where a sign turns round."""
    head, (q, k, v) = small_head(), draw(3, heads=1)
    stamped = times(3, 1, 30, 5e-3, longest_gap)
    got = attend_layer(q, k, v, head.laws, details=True, ages=stamped.ages)
    expected = [
        np.abs(head.cell.current(stored * np.exp(-pairs[0])[:, :, None])).sum(axis=2)
        for stored, pairs in zip(
            (head.write_path.voltages(x[0] + 0.45) - 0.45 for x in (k, v)),
            stamped.by_pair,
            strict=True,
        )
    ]
    assert got.pulse_widths is not None
    read_current = (got.pulse_widths[0] * expected[1]).sum(axis=1)
    np.testing.assert_allclose(got.activity.value_current[0], read_current, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: CellTimes(t.read[:, :-1], t.written, t.rate), "shape"),
        (lambda t: CellTimes(t.read * np.nan, t.written, t.rate), "finite"),
        (lambda t: CellTimes(t.written - 1, t.written, t.rate), "before"),
        (lambda t: CellTimes(t.read + 99, t.written[:, ::-1], t.rate), "before"),
        (lambda t: CellTimes(t.read, t.written, -1.0), "rate"),
    ],
)
def test_times_that_make_no_sense_are_refused(
    change: Callable[[CellTimes], CellTimes], words: str
) -> None:
    head, (q, k, v) = small_head(), draw(4)
    good = Ages.per_token(2, 30, 0.1)
    with pytest.raises(ConfigError, match=f"ages.values.*{words}"):
        attend_layer(q, k, v, head.laws, ages=Ages(good.keys, change(good.values)))


class Plain:
    """A cell's law without its polynomial: nothing that could be expanded."""

    def __init__(self, cell: Cell) -> None:
        self.current = cell.current


@pytest.mark.parametrize("window", [7, 10, 64])
@pytest.mark.parametrize("levels", [8, None])
@pytest.mark.parametrize("rate", [1e-3, 0.2])
def test_looked_up_cells_equal_expanded_ones(window: int, levels: int | None, rate: float) -> None:
    head = small_head(
        **{"window": window, "levels.key_value": levels, "retention.decay_per_token": rate}
    )
    q, k, v = draw(5, tokens=90)
    layer = LayerInput(q, k, v)
    expanded = attend_layers([layer], head.laws, details=True)[0]
    direct = attend_layers([layer], head.laws, details=True, law=Plain(head.cell))[0]
    assert np.array_equal(direct.codes, expanded.codes)  # type: ignore[arg-type]
    np.testing.assert_allclose(direct.scores, expanded.scores, rtol=1e-11, atol=1e-10)  # type: ignore[arg-type]
    for name in ("key_current", "value_current", "longest_score", "longest_output"):
        a, b = (getattr(x.activity, name) for x in (direct, expanded))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_looked_up_cells_give_the_oracles_codes() -> None:
    head = small_head(**{"retention.decay_per_token": 0.2})
    q, k, v = draw(6)
    got = attend_layers([LayerInput(q, k, v)], head.laws, details=True, law=Plain(head.cell))[0]
    assert_codes(got, oracle.attend(q, k, v, parameters(head, decay_per_token=0.2)))


def stretched(age: np.ndarray) -> np.ndarray:
    """A retention that is not one exponential."""
    return np.exp(-((age / 20) ** 0.6))


def test_a_measured_table_and_any_retention() -> None:
    """Against every cell on its own, written once more in plain sums."""
    head, (q, k, v) = small_head(), draw(7, heads=1)
    table = CurrentTable((-0.45, -0.1, 0.0, 0.2, 0.45), (-9.0, -3, 1, 5, 11))
    layer = LayerInput(q, k, v)
    got = attend_layers([layer], head.laws, details=True, law=table, retention=stretched)[0]
    i = np.arange(30)
    age = i[:, None] - i
    seen = (age >= 0) & (age < 10)
    left = stretched(np.maximum(age, 0))[:, :, None]
    keys, values = (
        table.current((head.write_path.voltages(x[0] + 0.45) - 0.45) * left) for x in (k, v)
    )
    pulses = head.pulse_generator.widths(q[0])
    scores = np.einsum("id,ijd->ij", pulses, keys) * seen
    np.testing.assert_allclose(got.scores[0], scores, atol=1e-11)  # type: ignore[index]
    charge = np.clip(scores / 80, 0, 1)[:, :, None] * values
    tile = i % 10 // 4
    raw = np.stack([charge[:, tile == t].sum(axis=1) for t in range(3)], axis=1) / 40
    codes = np.rint(np.clip(raw, -1, 1) * 15.5)
    assert np.array_equal(got.codes[0], codes)  # type: ignore[index]
    unsigned = np.einsum("id,ijd->i", pulses, np.abs(keys) * seen[:, :, None])
    np.testing.assert_allclose(got.activity.key_current[0], unsigned)
    still = attend_layers([layer], head.laws, law=table, retention=lambda age: np.ones_like(age))[0]
    off = small_head(**{"retention.model": "off"})
    assert np.array_equal(still.y, attend_layers([layer], off.laws, law=table)[0].y)


def test_float32_products_are_close_and_asked_for() -> None:
    head = Head(archsim.load_hardware().config)
    q, k, v = np.random.default_rng(8).normal(0, 0.4, (3, 2, 200, 64))
    exact, single = (
        attend_layer(q, k, v, head.laws, details=True, precision=precision)
        for precision in ("float64", "float32")
    )
    assert exact.codes is not None
    assert single.codes is not None
    differ = exact.codes != single.codes
    assert differ.mean() < 1e-3
    assert np.abs(exact.codes - single.codes).max() <= 1
    assert not np.array_equal(exact.scores, single.scores)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        single.activity.value_current, exact.activity.value_current, rtol=1e-5
    )
    with pytest.raises(ConfigError, match="float16"):
        attend_layer(q, k, v, head.laws, precision="float16")  # type: ignore[arg-type]


def test_float32_survives_fast_decay_too() -> None:
    head = small_head(**{"retention.decay_per_token": 2.5})
    q, k, v = draw(9)
    with np.errstate(over="raise", invalid="raise"):
        single = attend_layer(q, k, v, head.laws, precision="float32", details=True)
    exact = attend_layer(q, k, v, head.laws, details=True)
    np.testing.assert_allclose(single.scores, exact.scores, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


def everything(output: AttentionOutput) -> list[bytes]:
    arrays = [output.y, output.codes, output.pulse_widths, output.scores, output.partials]
    arrays += [*vars(output.activity).values(), *vars(output.saturation).values()]
    return [np.ascontiguousarray(x).tobytes() for x in arrays if x is not None]


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_changes_no_bit(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(archsim.load_hardware(overrides={"window": 100}).config)
    q, k, v = np.random.default_rng(10).normal(0, 0.4, (3, 5, 150, 64))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone = everything(attend_layer(q, k, v, head.laws, details=True))
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    assert everything(attend_layer(q, k, v, head.laws, details=True)) == alone


def with_and_without(
    head: Head, seed: int, tokens: int, features: int, precision: Any = "float64"
) -> tuple[list[bytes], list[bytes], int]:
    """What two heads give with numpy and compiled, and how often compiled code ran."""
    q, k, v = np.random.default_rng(seed).normal(0.2, 0.4, (3, 2, tokens, features))
    results, ran = [], 0

    def counted(*arguments: Any) -> None:
        nonlocal ran
        ran += 1
        fused.read_all(*arguments)

    for switch in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWITCH, switch)
            patch.setenv(CORES, "1")
            patch.setattr(one_head, "read_all", counted)
            results.append(everything(attend_layer(q, k, v, head.laws, precision=precision)))
        assert switch == "1" or not ran
    return results[0], results[1], ran


@needs_numba
@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        ({}, True),
        ({"window": 100}, True),
        ({"levels.output": 31}, True),
        ({"levels.output": 65536}, True),
        ({"levels.key_value": 28}, True),  # sums too large for single precision
        ({"cell.model": "linear", "window": 40, "array.columns": 24}, True),
        ({"retention.decay_per_token": 0.001}, True),
        ({"retention.decay_per_token": 3.0}, False),
        ({"retention.model": "off"}, False),
        ({"levels.output": None}, False),
        ({"levels.key_value": 1 << 16}, False),  # sums too large for double precision
        ({"levels.key_value": None}, False),
        ({"cell.mid_rail": "0.43 V"}, False),
        ({"array.rows": 24, "readout.model": "digital_sum"}, False),
        ({"readout.model": "sar_adc"}, False),
        ({"converter.law": "relu"}, False),
    ],
    ids=str,
)
def test_compiled_code_changes_no_bit(overrides: dict[str, Any], fits: bool) -> None:
    head = Head(archsim.load_hardware(overrides=overrides).config, 64)
    numpy, machine, ran = with_and_without(head, 11, 150, 64)
    assert numpy == machine
    assert ran == (3 if fits else 0)  # two heads, and two tokens to load it


@needs_numba
def test_without_machine_code_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba is there and broken: as usual after an update of numpy alone."""
    head = Head(archsim.load_hardware().config)
    q, k, v = draw(3, features=64)
    expected = everything(attend_layer(q, k, v, head.laws))

    def broken() -> None:
        raise ImportError("numba needs another numpy")

    monkeypatch.setattr(compiled, "_machine", broken)
    monkeypatch.setattr(scalers._scale, "_compiled", {})
    monkeypatch.setattr(attention, "LARGE", 1)
    monkeypatch.delenv(SWITCH, raising=False)
    assert everything(attend_layer(q, k, v, head.laws)) == expected
    monkeypatch.setenv(SWITCH, "1")
    with pytest.raises(ConfigError, match="no compiled code: numba needs another numpy; mend"):
        attend_layer(q, k, v, head.laws)


@needs_numba
def test_compiled_code_is_for_double_precision_and_without_details() -> None:
    head = Head(archsim.load_hardware().config)
    *_, ran = with_and_without(head, 12, 70, 64, "float32")
    assert ran == 0


@needs_numba
@settings(max_examples=60, deadline=None)
@given(
    window=st.integers(1, 150),
    columns=st.integers(1, 70),
    tokens=st.integers(1, 200),
    features=st.integers(2, 70),
    decay=st.sampled_from([1.6e-4, 0.02, 0.2]),
    levels=st.sampled_from([2, 8, 16, 64, 4096, 65536]),
    model=st.sampled_from(["polynomial", "linear"]),
    seed=st.integers(0, 99),
)
def test_compiled_code_changes_no_bit_of_any_shape(
    window: int,
    columns: int,
    tokens: int,
    features: int,
    decay: float,
    levels: int,
    model: str,
    seed: int,
) -> None:
    overrides = {
        "window": window,
        "array.columns": columns,
        "array.rows": features,
        "retention.decay_per_token": decay,
        "levels.key_value": levels,
        "cell.model": model,
    }
    head = Head(archsim.load_hardware(overrides=overrides).config)
    numpy, machine, _ = with_and_without(head, seed, tokens, features)
    assert numpy == machine
