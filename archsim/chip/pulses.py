"""How long pulses last at most: those of queries, and those that converters make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.hardware.sections import HardwareConfig


def query_steps(config: HardwareConfig) -> int:
    """Steps of the longest query pulse."""
    return (config.levels.query or 2) - 1


def longest_query(config: HardwareConfig) -> float:
    """T_max in s of query pulses; ``auto``: one clock period a level."""
    t_max = config.pulse_generator.t_max
    return query_steps(config) / config.controller.clock if t_max == "auto" else t_max


def longest_converted(config: HardwareConfig) -> float:
    """T_max in s of the pulses of converters, which drive V arrays and are counted."""
    return config.converter.t_max
