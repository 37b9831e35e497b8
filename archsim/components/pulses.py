"""How long pulses last at most: those of queries, and those that converters make."""

from __future__ import annotations

from archsim.config.hardware import HardwareConfig
from archsim.config.quantity import picoseconds


def longest_query(config: HardwareConfig) -> int:
    """T_max in ps of query pulses; ``auto``: one clock period a level."""
    t_max = config.pulse_generator.t_max
    if t_max == "auto":
        return ((config.levels.query or 2) - 1) * picoseconds(1 / config.controller.clock)
    return picoseconds(t_max)


def longest_converted(config: HardwareConfig) -> int:
    """T_max in ps of the pulses of converters, which drive V arrays and are counted."""
    return picoseconds(config.converter.t_max)
