"""What one head's rows add up to, sub-tile after sub-tile."""

from __future__ import annotations

import numpy as np

from archsim.chip.laws import Laws
from archsim.datapath.products import PANEL, Array
from archsim.machine.workspace import Workspace


class HeadSums:
    """Sums and counts of one head, its rows in whole panels; 0 at first.

    `total` (features, rows) of codes. Of each row, (rows,): `longest_output`, `longest_score` and
    `longest_partial` pulse, before the clamp; `counts`, `value_current`, `partial_counts` and
    `score_pulses`. `beyond`: scores below 0, scores beyond the full scale, clipped conversions,
    clipped conversions of partial sums. With details also what `AttentionOutput` keeps of them.
    """

    def __init__(
        self,
        tokens: int,
        laws: Laws,
        details: bool,
        work: Workspace,
    ) -> None:
        rows, features = -(-tokens // PANEL) * PANEL, laws.features
        self.total = work.zeros("total", (features, rows), np.dtype(np.float64))
        self.longest_output, self.longest_score, self.longest_partial = (
            np.zeros(rows) for _ in range(3)
        )
        self.counts, self.value_current, self.partial_counts, self.score_pulses = (
            np.zeros(rows) for _ in range(4)
        )
        self.beyond = np.zeros(4, np.int64)
        self.scores: Array | None = None
        self.pulse_widths: Array | None = None
        self.codes: Array | None = None
        self.partials: Array | None = None
        if details:
            self.scores, self.pulse_widths = (np.zeros((tokens, tokens)) for _ in range(2))
            self.codes = np.zeros((tokens, laws.ring.count, features))
            if laws.readout.conversion is not None:
                self.partials = np.zeros((tokens, len(laws.readout.parts), tokens))
