"""One head: the blocks put together (FACTS 1: one head is one hardware unit)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from archsim.chip.accumulator import Accumulator, Counters, adder_sharing
from archsim.chip.action import Bucket, Footprint, Law
from archsim.chip.array import Arrays, SubTiles, geometry, writes_during_read
from archsim.chip.cell import READ_KEYS, READ_VALUES, Cell, current_law, linear_slope, swing
from archsim.chip.controller import Controller, gates_unwritten, order
from archsim.chip.converter import (
    SignedConverters,
    activation_law,
    buffers,
    output_full_scale,
    output_levels,
    score_full_scale,
)
from archsim.chip.laws import Laws, laws_of
from archsim.chip.pulse_generator import PulseGenerator, generator_sharing, query_levels
from archsim.chip.readouts.law import readout_of
from archsim.chip.refresh import refresh_of
from archsim.chip.retention import fading
from archsim.chip.stage import WRITE_KEY, WRITE_VALUE, Phase, Resource, Stage, put_together
from archsim.chip.work import Block
from archsim.chip.write_path import WritePath, driver_sharing, stored_levels

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


def periphery_scale(config: HardwareConfig) -> float:
    """What all areas but that of the cells are multiplied by."""
    return config.calibration.periphery_area


WORK: tuple[Law, ...] = (
    geometry, current_law, swing, fading, stored_levels, query_levels, score_full_scale,
    activation_law, output_full_scale, output_levels, gates_unwritten,
)  # fmt: skip
"""What sets how much there is to do, besides the trace and the readout."""

WAITING: tuple[Law, ...] = (
    driver_sharing, generator_sharing, adder_sharing, buffers, order, writes_during_read,
)  # fmt: skip
"""What sets how long a token waits, besides how long its phases last."""


_TOTALS: tuple[Bucket, ...] = ("qk", "sv", "dac", "digital", "static", "refresh")
"""The order in which blocks are accounted for."""


class Head:
    """The hardware of one attention head: a store of keys and values, and its reader.

    `head_dim`: length of its vectors; None: as many as an array has rows.
    """

    def __init__(self, config: HardwareConfig, head_dim: int | None = None) -> None:
        self._config, self._head_dim = config, head_dim
        self.cell = cell = Cell(config)
        self.sub_tiles = tiles = SubTiles.of(config, head_dim)
        self._periphery_scale = periphery_scale(config)

        # the store: where keys and values are written, and kept
        self.refresh = refresh_of(config, tiles)
        self.write_path = WritePath(config, cell, tiles)

        # its reader, from a query to y
        self.pulse_generator = PulseGenerator(config, tiles)
        self.readout = readout_of(config, tiles)(config, tiles)
        self.output_converters = SignedConverters(config, tiles)
        self.counters = Counters(config, self.output_converters.conversion, tiles)
        self.accumulator = Accumulator(config, tiles)
        self.controller = Controller(config)

        self.linear_slope = linear_slope(config)
        """uA/V of the linear cell, and of *ideal* attention."""

        self.key_arrays = Arrays(
            tiles, cell, "qk", READ_KEYS, WRITE_KEY, "key_current", self.pulse_generator.t_max
        )
        self.value_arrays = Arrays(
            tiles, cell, "sv", READ_VALUES, WRITE_VALUE, "value_current", self.readout.t_max
        )
        self.store: tuple[Block, ...] = (
            self.refresh,
            self.key_arrays,
            self.value_arrays,
            self.write_path,
        )
        self.reader: tuple[Block, ...] = (
            self.pulse_generator,  # drives the K arrays
            self.readout,  # turns their charge into pulses on the V arrays
            self.output_converters,
            self.counters,
            self.accumulator,
        )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order in which a token meets them; the controller keeps time."""
        return (*self.store, *self.reader, self.controller)

    @property
    def by_total(self) -> list[Block]:
        """All blocks in the order of the published totals (FACTS 3)."""
        return sorted(self.blocks, key=lambda block: _TOTALS.index(block.total))

    @property
    def refreshes(self) -> bool:
        """Whether anything restores what cells hold."""
        return self.refresh.period_ticks is not None

    @property
    def standing_power(self) -> float:
        """W that it draws by time, whatever tokens do: static power, and refresh when full."""
        return self.controller.static_power + self.refresh.power

    @cached_property
    def laws(self) -> Laws:
        """What its function depends on."""
        return laws_of(self._config, self._head_dim)

    def structure(
        self, heads: int
    ) -> tuple[tuple[Stage, ...], tuple[Resource, ...], tuple[Phase, ...]]:
        """Stages, resources and phases in a layer of so many `heads`, which bound all sharing."""
        return put_together(part for block in self.blocks for part in block.stages(heads))

    def footprints(self, heads: int) -> list[Footprint]:
        """Every block's area in one of `heads` heads of a layer.

        All but the cells carry the fitted periphery factor.
        """
        blocks = (each for block in self.by_total for each in block.footprints(heads))
        return [self._scaled(each) for each in _joined(blocks)]

    @property
    def cells(self) -> Footprint:
        """The cells of both kinds of array."""
        return next(block for block in self.footprints(1) if not block.periphery)

    def _scaled(self, block: Footprint) -> Footprint:
        if not block.periphery:
            return block
        area = block.area_each * self._periphery_scale
        return replace(block, area_each=area, laws=(*block.laws, periphery_scale))


def _joined(blocks: Iterable[Footprint]) -> list[Footprint]:
    """Blocks of the same kind counted together."""
    found: dict[str, Footprint] = {}
    for block in blocks:
        before = found.get(block.component)
        instances = block.instances + (0 if before is None else before.instances)
        found[block.component] = replace(block, instances=instances)
    return list(found.values())
