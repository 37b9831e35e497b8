"""A model under evaluation: its software form, and the weights and scalers that a hardware gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.accuracy.closed_loop import (
    Progress,
)
from archsim.accuracy.direct_search import search_scalers
from archsim.chip.head import Head
from archsim.chip.laws import laws_of
from archsim.config.voltages import VoltageRange
from archsim.hardware.load import Hardware
from archsim.models.adapted import AdaptedModel, is_adapted, load_adapted
from archsim.models.gpt2 import Gpt2
from archsim.models.huggingface import load_gpt2
from archsim.notes import adapted_to, run_notes
from archsim.retention import with_token_period
from archsim.traces.scalers import Scaler

MadeFor = tuple[Gpt2, dict[str, Scaler], str]
"""Weights and scalers for some hardware, and where they come from, in words."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under evaluation: its software form, and what runs on a hardware.

    An adapted model brings weights and scalers for the linear and for the polynomial cell. Any
    other gets scalers by direct search on `calibration` ids (windows, tokens), anew for every
    hardware.
    """

    name: str
    software: Gpt2
    adapted: AdaptedModel | None = None
    calibration: NDArray[np.int64] | None = None
    progress: Progress | None = None
    _searches: dict[str, MadeFor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Subject {self.name}, scalers {self.scalers_from}>"

    @property
    def voltages(self) -> VoltageRange | None:
        """For which cells the scalers were made; None for those of the hardware they run on."""
        return None if self.adapted is None else self.adapted.voltages

    def notes(self, hardware: Hardware) -> list[str]:
        """What was fitted for something else than `hardware`."""
        adapted = self.adapted
        if adapted is None:
            return list(hardware.notes)
        made_for = adapted_to(adapted.folder, hardware, adapted.model.config.head_dim)
        notes = run_notes(hardware, adapted.voltages, made_for)
        if not adapted.has_stages:
            notes.append(
                "The stages of the adaptation are not here: no control, and the linear cell runs "
                "with the final weights and scalers"
            )
        return notes

    @property
    def scalers_from(self) -> str:
        if self.calibration is None:
            return "adapted"
        return (
            f"not adapted: direct search on {self.calibration.size} tokens of the text that are "
            "not measured"
        )

    def made_for(self, hardware: Hardware) -> MadeFor:
        """Weights and scalers for the cell of `hardware`, whatever else it changes.

        An adapted model's are those of its linear stage for the linear cell and the final ones for
        the polynomial cell; of one without a linear stage the final ones for both.
        """
        if self.adapted is not None:
            return self._stored(hardware.config.cell.model)
        key = laws_of(hardware.config, self.software.config.head_dim).sha256
        if key not in self._searches:
            self._searches[key] = self._searched(hardware)
        return self._searches[key]

    def _stored(self, cell: str) -> MadeFor:
        assert self.adapted is not None
        stage = self.adapted.stage("linear") if cell == "linear" else None
        if stage is None or stage.scalers is None:
            return self.adapted.model, self.adapted.scalers, "final"
        return stage.model, stage.scalers, "linear stage"

    def _searched(self, hardware: Hardware) -> MadeFor:
        assert self.calibration is not None
        head = Head(with_token_period(hardware).config, self.software.config.head_dim)
        found = search_scalers(self.software, head, self.calibration, progress=self.progress)
        return self.software, found.scalers, "searched"


def load_subject(
    folder: Path, calibration: NDArray[np.int64], progress: Progress | None
) -> Subject:
    """A result of ``archsim adapt``, or any GPT-2 with scalers searched on `calibration` ids.

    Raises ConfigError or CorruptInputError as the readers of such folders do.
    """
    if is_adapted(folder):
        return adapted_subject(folder)
    name = folder.resolve().name
    return Subject(name, load_gpt2(folder), None, calibration, progress)


def adapted_subject(folder: Path) -> Subject:
    """A result of ``archsim adapt``. Raises ConfigError or CorruptInputError as its readers do."""
    adapted = load_adapted(folder)
    return Subject(folder.resolve().name, adapted.software, adapted)
