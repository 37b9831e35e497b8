"""What one head's rows add up to, sub-tile after sub-tile."""

from __future__ import annotations

import numpy as np

from archsim.components.array import SubTiles
from archsim.datapath.products import PANEL, Array
from archsim.datapath.workspace import Workspace


class Collected:
    """Sums and counts of one head, in panels of rows; 0 at first.

    `total` (panels, features, PANEL) of codes. `longest_output`, `longest_score` and
    `longest_partial` (panels, lines, PANEL): the greatest of a row's lines is its longest pulse;
    there are as many as bit lines, or one, if not `by_line`.
    `counts`, `value_current`, `partial_counts` and `score_pulses` (panels, PANEL). `beyond`: scores
    below 0, scores beyond the full scale, clipped conversions, clipped conversions of partial sums.
    With details also what `AttentionOutput` keeps of them.
    """

    def __init__(
        self,
        tokens: int,
        features: int,
        tiles: SubTiles,
        details: bool,
        by_line: bool,
        work: Workspace,
    ) -> None:
        panels, parts = -(-tokens // PANEL), len(tiles.parts)
        lines = {
            "total": features,
            "longest output": features if by_line else 1,
            "longest score": tiles.columns if by_line else 1,
            "longest partial": tiles.columns if parts > 1 else 1,
        }
        self.total, self.longest_output, self.longest_score, self.longest_partial = (
            work.zeros(name, (panels, count, PANEL), np.dtype(np.float64))
            for name, count in lines.items()
        )
        self.counts, self.value_current, self.partial_counts, self.score_pulses = (
            np.zeros((panels, PANEL)) for _ in range(4)
        )
        self.beyond = np.zeros(4, np.int64)
        self.scores: Array | None = None
        self.pulse_widths: Array | None = None
        self.codes: Array | None = None
        self.partials: Array | None = None
        if details:
            self.scores, self.pulse_widths = (np.zeros((tokens, tokens)) for _ in range(2))
            self.codes = np.zeros((tokens, tiles.count, features))
            if parts > 1:
                self.partials = np.zeros((tokens, parts, tokens))
