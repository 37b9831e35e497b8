"""`conform`: the kit that every variant passes, built in or from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from archsim.config import variants
from archsim.config.section import suggestion
from archsim.config.variants import Variant, variant
from archsim.errors import ConfigError, ConformError
from archsim.hardware.load import load_hardware
from archsim.simulation import simulate_trace
from archsim.testing.cases import CASES, IDEAL, PLAIN, SMALL, Run, Trial, small_trace
from archsim.testing.checks import books, fields, figures, function, laws, schedule


@dataclass(frozen=True)
class Conformity:
    """What a variant was found to hold.

    `checks`: what each check found out, by hardware. `refused`: hardwares that the variant does not
    go with, and why. `replaced`: hardwares in which another variant stands in for it.
    """

    variant: str
    checks: Mapping[str, Mapping[str, str]]
    refused: Mapping[str, str]
    replaced: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.variant} conforms, on {len(self.checks)} hardwares:"]
        by_check: dict[str, dict[str, list[str]]] = {}
        for case, found in self.checks.items():
            for check, text in found.items():
                by_check.setdefault(check, {}).setdefault(text, []).append(case)
        for check, texts in by_check.items():
            usual = max(texts, key=lambda text: len(texts[text]))
            lines.append(f"  {check}: {usual}")
            lines += [
                f"    on '{case}': {text}"
                for text, cases in texts.items()
                for case in cases
                if text != usual
            ]
        lines += [f"  not with '{case}': {reason}" for case, reason in self.refused.items()]
        lines += [f"  another stands in for it with '{case}'" for case in self.replaced]
        return "\n".join(lines)


def conform(
    cls: type[Any], slot: str | None = None, name: str | None = None, /, **parameters: object
) -> Conformity:
    """Put a variant to the test on a small trace and several hardwares, in a few seconds.

    `cls` is registered by `archsim.variant`, or `slot` and `name` are given. `parameters` are the
    values of its fields as in a YAML file (a mapping for a section), over those that a class
    attribute ``example`` may hold; a name with a dot is any key of the hardware. pytest is not
    needed.

    Checked are: the function against a slow loop over cells that knows the laws alone, against the
    mathematics where nothing is quantised or fades, and by every engine; times by every engine; the
    books, and that they notice a wrong `spend`; energies and areas; the laws themselves; fields,
    and files written and read again.

    Raises ConformError that says which check, on which hardware, what was expected and what was
    found; ConfigError for a class that is not registered or parameters that do not fit.
    """
    with _known(cls, slot, name) as found:
        return _conform(found, {**getattr(cls, "example", {}), **parameters})


@contextmanager
def _known(cls: type[Any], slot: str | None, name: str | None) -> Iterator[Variant]:
    """The variant that a class is, registered for as long as it takes."""
    if slot is not None and name is not None:
        with variants.temporary():
            variant(slot, name)(cls)
            yield variants.entry(slot, name)
        return
    for each in variants.slots():
        for known in variants.variants(each.name):
            if known.cls is cls:
                yield known
                return
    raise ConfigError(
        f"{cls.__qualname__} is no variant: decorate it with @archsim.variant(slot, name), "
        "or give slot and name"
    )


def _conform(found: Variant, parameters: Mapping[str, object]) -> Conformity:
    chosen: dict[str, object] = {found.slot.key: found.name}
    for key, value in parameters.items():
        own = f"{found.slot.section}.{key}"
        if key not in found.fields and "." not in key:
            known = [f"{found.slot.section}.{name}" for name in found.fields]
            raise ConfigError(
                f"{found.slot.key} {found.name} has no field {own}{suggestion(own, known)}"
            )
        chosen |= _dotted(own if key in found.fields else key, value)
    checks: dict[str, dict[str, str]] = {}
    refused: dict[str, str] = {}
    replaced: list[str] = []
    unread: list[set[str]] = []
    for case in CASES:
        try:
            hardware = load_hardware(overrides={**SMALL, **case.overrides, **chosen})
        except ConfigError as error:
            if case is PLAIN:
                raise
            refused[case.name] = str(error)
            continue
        trial = Trial(found, case, hardware, small_trace())
        run = _run(trial)
        if not run.used:
            replaced.append(case.name)
            continue
        unread.append({key for key in run.simulation.unread if _is_own(found, key)})
        checks[case.name] = _checked(run)
    place = f"{found.slot.key} {found.name}"
    if not checks:
        raise ConformError(f"{place}: none of the hardwares is built with it")
    if never := set.intersection(*unread):
        raise ConformError(f"{place}: fields: nothing reads {', '.join(sorted(never))}")
    return Conformity(place, checks, refused, tuple(replaced))


def _is_own(found: Variant, key: str) -> bool:
    """Whether a dotted key is a field of the variant."""
    section, _, rest = key.partition(".")
    return section == found.slot.section and rest.partition(".")[0] in found.fields


def _run(trial: Trial) -> Run:
    """The hardware simulated, after what must hold before that makes sense."""
    if trial.case is PLAIN:
        fields.check(trial)
    laws.check(trial)
    schedule.check_structure(trial)
    with trial.during("simulation"):
        simulation = simulate_trace(
            trial.trace, trial.hardware, order=trial.case.order, prompt=trial.case.prompt
        )
    return Run(trial, simulation)


def _checked(run: Run) -> dict[str, str]:
    """What each check found out."""
    found = function.check(run)
    if run.trial.case is IDEAL:
        found |= function.check_mathematics(run)
    return found | schedule.check(run) | books.check(run) | figures.check(run)


def _dotted(key: str, value: object) -> dict[str, object]:
    """Dotted keys of a value, which may be a section."""
    if not isinstance(value, Mapping):
        return {key: value}
    return {k: v for name, each in value.items() for k, v in _dotted(f"{key}.{name}", each).items()}
