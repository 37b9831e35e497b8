"""What attention on the hardware costs a model, measured: what ``archsim evaluate`` reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from archsim.accuracy.closed_loop import (
    Row,
    difference,
)
from archsim.accuracy.material import Material
from archsim.accuracy.subject import Subject
from archsim.accuracy.uncertainty import Estimate, estimate
from archsim.hardware.load import Hardware
from archsim.models.texts import Text
from archsim.retention import Retention, retention_of

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class ByText:
    """One row on one text: loss in nats a token, and its distance from other rows."""

    text: Text
    windows: int
    loss: Estimate
    above_software: Estimate
    above_control: Estimate | None

    def document(self) -> dict[str, Any]:
        control = self.above_control
        return {
            "text": self.text.name,
            "use": self.text.use,
            "windows": self.windows,
            "loss": self.loss.mean,
            "loss_standard_error": self.loss.error,
            "above_software": self.above_software.mean,
            "above_software_standard_error": self.above_software.error,
            "above_control": None if control is None else control.mean,
            "above_control_standard_error": None if control is None else control.error,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rows of one subject on one material and hardware."""

    subject: Subject
    material: Material
    hardware: Hardware
    rows: list[Row]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """Keys that were set or varied and that no row depends on."""

    def __repr__(self) -> str:
        last, windows = self.rows[-1], int(self.material.counted.sum())
        return (
            f"<Evaluation of {self.subject.name} on {self.hardware.name}: {last.name} "
            f"{last.loss:.3f} nats over {windows:,} windows>"
        )

    @property
    def control(self) -> Row | None:
        return next((row for row in self.rows if row.name == "control"), None)

    def by_text(self, row: Row) -> list[ByText]:
        """`row` on each text apart, the held-out one too, each with its standard errors."""
        software, control, found = self.rows[0], self.control, []
        for place, text in enumerate(self.material.texts):
            picked = self.material.text_of == place
            if not picked.any():
                continue
            losses = row.token_losses
            counts = self.material.lengths[picked]
            found.append(
                ByText(
                    text,
                    int(picked.sum()),
                    estimate(np.nansum(losses[picked], axis=1), counts),
                    difference(losses, software.token_losses, picked),
                    None if control is None else difference(losses, control.token_losses, picked),
                )
            )
        return found

    def above_control(self, row: Row) -> Estimate | None:
        """`row` minus the control over all counted windows."""
        if self.control is None:
            return None
        return difference(row.token_losses, self.control.token_losses, row.counted)

    @cached_property
    def retention(self) -> Retention:
        """The decay of the hardware's rows beside that of a whole token's time."""
        return retention_of(self.hardware)

    def document(self) -> dict[str, Any]:
        material = self.material
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.subject.name,
            "hardware": self.hardware.name,
            "hardware_sha256": self.hardware.sha256,
            "text": material.name,
            "windows": int(material.counted.sum()),
            "tokens": material.tokens,
            "held_out": [text.name for text in material.texts if text.use == "held_out"],
            "scalers": self.subject.scalers_from,
            "notes": list(self.notes),
            "unread_parameters": list(self.unread),
            "retention": self.retention.document(),
            "rows": [self._row_document(row) for row in self.rows],
        }

    def probes_above_control(self, row: Row) -> dict[str, Estimate]:
        """Points by which `row` is above the control on each probe; empty without a control."""
        if self.control is None:
            return {}
        return {probe: row.probe_above(self.control, probe) for probe in row.probe_hits}

    def _row_document(self, row: Row) -> dict[str, Any]:
        above, probes = self.above_control(row), self.probes_above_control(row)
        return {
            **row.document(),
            "above_control": None if above is None else above.mean,
            "above_control_standard_error": None if above is None else above.error,
            "probes_above_control": {name: e.mean for name, e in probes.items()},
            "probes_above_control_standard_error": {n: e.error for n, e in probes.items()},
            "by_text": [part.document() for part in self.by_text(row)],
        }
