"""Each block on its own: what it computes, how long it takes, what it costs, how big it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.chip.head import Head
from archsim.datapath.attention import attend_layer


def head(**overrides: Any) -> Head:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return Head(archsim.load_hardware(overrides=dotted).config)


def areas(built: Head, heads: int = 1) -> dict[str, float]:
    return {block.component: block.area for block in built.footprints(heads)}


def test_slots_wrap_and_runs_follow_sub_tiles() -> None:
    tiles = head(window=10, array__columns=4).sub_tiles
    assert (tiles.count, tiles.slots) == (3, 12)
    assert [tiles.sub_tile(t) for t in range(12)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 0, 0]
    runs = [(run.sub_tile, run.first, run.stop) for run in tiles.runs(2, 15)]
    assert runs == [(0, 2, 4), (1, 4, 8), (2, 8, 10), (0, 10, 14), (1, 14, 15)]


def test_second_buffers_are_second_converters() -> None:
    one, two = areas(head()), areas(head(converter__buffers=2))
    for name in ("converters", "signed converters"):
        assert two[name] == pytest.approx(2 * one[name])
    assert two["counters"] == one["counters"]


@pytest.mark.parametrize(
    ("key", "component"),
    [
        ("write_path__heads_per_driver", "DACs"),
        ("pulse_generator__heads_per_generator", "pulse generators"),
        ("accumulator__heads_per_adder", "adders"),
    ],
)
def test_shared_blocks_are_fewer(key: str, component: str) -> None:
    alone, shared = areas(head(), 6), areas(head(**{key: 3}), 6)
    assert shared[component] == pytest.approx(alone[component] / 3)
    assert {n for n in alone if shared[n] != alone[n]} == {component}


def test_only_periphery_carries_the_fitted_factor() -> None:
    plain, scaled = (
        areas(head(calibration__periphery_area=1.0)),
        areas(head(calibration__periphery_area=2.0)),
    )
    assert scaled["cells"] == plain["cells"] == pytest.approx(131072e-12)
    assert all(scaled[n] == pytest.approx(2 * plain[n]) for n in plain if n != "cells")


def test_early_end_rounds_up_to_an_edge_and_never_down() -> None:
    controller = head(controller__phases="early_end").controller
    longest = np.array([0.0, 1 / 15000, 0.4, 0.4001, 1.0])
    assert controller.phase(longest, 15_000).tolist() == [0, 1000, 6000, 7000, 15_000]


def test_a_started_cycle_is_a_cycle() -> None:
    controller = head().controller
    assert controller.cycles(np.array([0, 1, 1000, 1001])).tolist() == [0, 1, 1, 2]


def test_auto_pulse_is_one_period_a_level() -> None:
    auto = {"pulse_generator__t_max": "auto", "controller__clock": "2 GHz"}
    assert head(**auto).pulse_generator.t_max_ticks == 7_500
    assert head(**auto, levels__query=4).pulse_generator.t_max_ticks == 1_500


def test_writing_costs_the_charge_drawn_from_the_supply() -> None:
    cell = head(cell__supply="1.1 V").cell
    assert cell.write_energy(np.array([2.0])) == pytest.approx(10e-15 * 1.1 * 2.0)


def test_word_line_energy_goes_with_the_square_of_the_amplitude() -> None:
    built = head(pulse_generator__energy_per_pulse="0 pJ", calibration__digital_energy=1.0)
    energy = built.pulse_generator.pulse_energy(np.array([3.0]))
    assert energy == pytest.approx(3 * 40e-15 * 0.9**2)


def test_keys_and_values_are_read_for_pulses_of_their_own_length() -> None:
    """Twice the converter's T_max doubles the V arrays' charge and leaves the K arrays alone."""
    trace = archsim.Trace.from_arrays(
        *np.random.default_rng(0).normal(0, 1, (3, 1, 1, 20, 64)), "fit"
    )
    spent = [
        archsim.simulate(
            trace, archsim.load_hardware(overrides={"converter.t_max": t_max})
        ).simulation.ledger.by_component()
        for t_max in ("15 ns", "30 ns")
    ]
    assert spent[1]["V arrays"] == pytest.approx(2 * spent[0]["V arrays"])
    assert spent[1]["K arrays"] == pytest.approx(spent[0]["K arrays"])


def test_without_levels_a_count_is_a_clock_edge() -> None:
    ideal = head(levels__output=None).counters.conversion
    assert ideal.counts(np.array([-0.5])).tolist() == [8.0]  # 7.5 to even
    assert head().counters.conversion.counts(np.array([-7.0])).tolist() == [7.0]


def test_levels_of_null_neither_step_nor_clamp() -> None:
    built = head(levels__query=None, levels__key_value=None)
    x = np.array([-0.3, 0.2345, 1.7])
    assert np.array_equal(built.pulse_generator.widths(x), x)
    assert np.array_equal(built.write_path.voltages(x), x)


def test_an_output_saturates_at_both_ends() -> None:
    built = head(array__rows=1, cell__model="linear", retention__model="off")
    ones = np.ones((1, 1, 1))
    codes = [
        attend_layer(30 * ones, 0.45 * ones, sign * 9 * ones, built.laws, details=True).codes
        for sign in (1, -1)
    ]
    assert codes[0] is not None
    # one cell at a rail: 19.3 uA/V x 0.45 V x clip(1 x 19.3 x 0.45 / 80) / 40 uA
    pulse = 19.3 * 0.45 / 80
    expected = round(19.3 * 0.45 * pulse / 40 * 31 / 2)
    assert codes[0].ravel()[0] == expected
