"""What the blocks of a layer did: the activity sets durations and energies."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Activity:
    """What the blocks did, per head and token: arrays of shape (heads, tokens).

    Widths are fractions of T_max; `key_current` and `value_current` are sums of |I| x width / T_max
    over cells in uA; `stored_keys` and `stored_values` are sums of written voltages in V. The last
    three are of scores that are digitised, and else 0: `longest_partial` is the largest share of
    full scale of any part, `partial_counts` sums the codes' magnitudes, whether or not a readout
    makes pulses of parts and counts them.
    """

    query_pulses: Array
    longest_query: Array
    key_current: Array
    longest_score: Array
    value_current: Array
    longest_output: Array
    counts: Array
    written_columns: Array
    written_sub_tiles: Array
    stored_keys: Array
    stored_values: Array
    longest_partial: Array
    partial_counts: Array
    score_pulses: Array

    @classmethod
    def busiest(cls, heads: int, tokens: int) -> Activity:
        """An activity in which every pulse lasts T_max."""
        return cls(*(np.ones((heads, tokens)) for _ in fields(cls)))
