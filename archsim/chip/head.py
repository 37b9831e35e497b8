"""One head: the blocks put together, and their areas (FACTS 1: one head is one hardware unit)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from archsim.chip.accumulator import Accumulator, Counters, adder_sharing
from archsim.chip.action import Footprint, Law
from archsim.chip.array import Arrays, SubTiles, geometry, writes_during_read
from archsim.chip.cell import READ_KEYS, READ_VALUES, Cell, current_law, fading, swing
from archsim.chip.controller import Controller, gates_unwritten, order
from archsim.chip.converter import (
    ScoreConverter,
    SignedConverter,
    buffers,
    output_full_scale,
    output_levels,
    score_full_scale,
)
from archsim.chip.pulse_generator import PulseGenerator, generator_sharing, query_levels
from archsim.chip.row_split import (
    RowSplit,
    partial_full_scale,
    partial_levels,
    score_levels,
)
from archsim.chip.variants import ACTIVATION, REFRESH
from archsim.chip.work import Block
from archsim.chip.write_path import WritePath, driver_sharing, stored_levels
from archsim.config.variants import find

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


def periphery_scale(config: HardwareConfig) -> float:
    """What all areas but that of the cells are multiplied by."""
    return config.calibration.periphery_area


WORK: tuple[Law, ...] = (
    geometry, current_law, swing, fading, stored_levels, query_levels, score_full_scale,
    output_full_scale, output_levels, gates_unwritten,
)  # fmt: skip
"""What sets how much there is to do, besides the trace."""

WORK_OF_PARTS: tuple[Law, ...] = (partial_full_scale, partial_levels, score_levels)
"""The same where dot products are split digitally."""

WAITING: tuple[Law, ...] = (
    driver_sharing, generator_sharing, adder_sharing, buffers, order, writes_during_read,
)  # fmt: skip
"""What sets how long a token waits, besides how long its phases last."""


class Head:
    """The hardware of one attention head.

    `head_dim`: length of its vectors; None: as many as an array has rows.
    """

    def __init__(self, config: HardwareConfig, head_dim: int | None = None) -> None:
        self.cell = Cell(config)
        self.sub_tiles = SubTiles(config, self.cell, head_dim)
        self.write_path = WritePath(config, self.cell, self.sub_tiles)
        self.pulse_generator = PulseGenerator(config, self.sub_tiles)
        self.score_converter = ScoreConverter(config, self.sub_tiles)
        levels, lines = output_levels(config), self.sub_tiles.count * self.sub_tiles.rows
        full_scale = output_full_scale(config)
        self.output_converter = SignedConverter(config, levels, full_scale, lines)
        self.counters = Counters(config, levels, lines)
        self.accumulator = Accumulator(config, self.sub_tiles)
        self.row_split: RowSplit | None = None
        """What puts dot products together where an array holds a part of them alone."""
        if len(self.sub_tiles.parts) > 1:
            self.row_split = RowSplit(
                config,
                self.sub_tiles,
                self.score_converter,
                self.pulse_generator,
                self.accumulator,
            )
        self.controller = Controller(config)
        self.law = find(ACTIVATION.name, config.converter.law)
        self.refresh = find(REFRESH.name, config.refresh.model)
        self._periphery_scale = periphery_scale(config)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All that spends energy, in the order of the published totals (FACTS 3)."""
        cell, features = self.cell, self.sub_tiles.features
        t_query, t_score = self.pulse_generator.t_max, self.score_converter.t_max
        return (
            Arrays(cell, features, READ_KEYS, "key_current", t_query),
            self.score_converter if self.row_split is None else self.row_split,
            Arrays(cell, features, READ_VALUES, "value_current", t_score),
            self.output_converter,
            self.write_path,
            self.pulse_generator,
            self.counters,
            self.accumulator,
            self.controller,
        )

    def footprints(self, heads: int) -> list[Footprint]:
        """Every block's area in one of `heads` heads of a layer.

        All but the cells carry the fitted periphery factor.
        """
        split = self.row_split
        periphery = [
            *(split.footprints() if split is not None else [self.score_converter.footprint()]),
            self.output_converter.footprint(),
            self.write_path.footprint(heads),
            self.pulse_generator.footprint(heads),
            self.counters.footprint(),
            self.accumulator.footprint(heads),
            self.controller.footprint(),
        ]
        scaled = [
            replace(
                block,
                area_each=block.area_each * self._periphery_scale,
                laws=(*block.laws, periphery_scale),
            )
            for block in periphery
        ]
        return [self.sub_tiles.footprint(), *scaled]
