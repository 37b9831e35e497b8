"""Two answers to one job beside each other: what is equal, and what differs where.

Everything must be equal to the last bit, energies and powers but for the rounding of their sums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["value", "lost", "new", "outcome", "hidden"]
"""``lost`` and ``new`` are keys that one side alone has; ``outcome``: it refused, or broke down;
``hidden``: what lies inside one version's results and is not found in the other's."""

ENERGIES = re.compile(r"energy|energies|power|_pj|_mw|tops_per_w|joule|watt", re.IGNORECASE)
"""Words in a path that say that a number is a sum of energies, or follows from one."""

TOLERANCE = 1e-12

RENAMED = {
    r"\bmapping\.row_split\b": "readout.model",
    r"\bmapping\.": "readout.",
    r"(\breadout\.model\b\W+)charge\b(?!_)": r"\1charge_to_pulse",
    r"(\breadout\.model\b\W+)digital\b(?!_)": r"\1digital_sum",
}
"""Names that changed from one version to the next: old text is read in the new words."""

KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")

Path = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One place at which two answers differ."""

    kind: Kind
    path: Path
    old: Any = None
    new: Any = None

    @property
    def where(self) -> str:
        return " / ".join(self.path)

    @property
    def pattern(self) -> str:
        """The place without numbers and runs: the same difference in another job or row."""
        return " / ".join(re.sub(r"^([\d ]+|run .*)$", "*", part) for part in self.path)

    def __str__(self) -> str:
        if self.kind == "lost":
            return f"{self.where}: lost (was {_short(self.old)})"
        if self.kind == "new":
            return f"{self.where}: new ({_short(self.new)})"
        if self.kind == "hidden":
            return f"{self.where}: not found in both, not compared"
        return f"{self.where}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[Difference]:
    """Where two documents differ.

    A list of keys is compared as a set, of named entries by name, any other in its order. Answers
    in them (`found`, or the `error` that a function raised) are equal where both refuse alike.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if _is_answer(old) and _is_answer(new):
            yield from _outcomes(old, new, path)
        elif {"sha256", "shape"} <= {*old} & {*new}:  # an array
            if old["sha256"] != new["sha256"]:
                yield Difference("value", path, _array(old), _array(new))
        else:
            yield from _mappings(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _mappings(_by_name(old), _by_name(new), path)
    elif not _equal(old, new, path):
        yield Difference("value", path, old, new)


def _array(value: dict[str, Any]) -> str:
    return " ".join(f"{name} {found}" for name, found in value.items())


def _is_answer(value: dict[str, Any]) -> bool:
    return set(value) in ({"found"}, {"error", "message", "refused"})


def _outcomes(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Difference]:
    if "found" in old and "found" in new:
        yield from differences(old["found"], new["found"], path)
        return
    same = old.get("error") == new.get("error")
    if not (same and old.get("refused") and new.get("refused")):
        yield Difference("outcome", path, _outcome(old), _outcome(new))


def _outcome(answer: dict[str, Any]) -> str:
    return "a result" if "found" in answer else f"{answer['error']}: {answer['message']}"


def _mappings(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[Difference]:
    names = {canonical(name): name for name in new}
    seen = set()
    for name, value in old.items():
        place = (*path, canonical(name))
        if place[-1] not in names:
            yield Difference("lost", place, value)
            continue
        seen.add(place[-1])
        other = new[names[place[-1]]]
        deeper = place[-2:-1] == ("inside",) or name == "tables"
        if deeper and None in (value, other):
            if value is not other:
                yield Difference("hidden", place)
            continue
        yield from differences(value, other, place)
    for name, key in names.items():
        if name not in seen:
            yield Difference("new", (*path, name), new=new[key])


def _by_name(values: list[Any]) -> dict[str, Any]:
    """Entries by what tells them apart: a name, themselves in a list of keys, or their place."""
    if all(isinstance(value, str) for value in values):
        lines = [line for line in map(canonical, values) if not _is_notice(line)]
        if all(KEY.fullmatch(line) for line in lines):
            return {line: line for line in lines}
        return {str(index): line for index, line in enumerate(lines)}
    for label in ("name", "label"):
        names = [value.get(label) if isinstance(value, dict) else None for value in values]
        if None not in names and len({*names}) == len(names):
            return dict(zip(map(str, names), values, strict=True))
    return {str(index): value for index, value in enumerate(values)}


def canonical(text: str) -> str:
    """A text in the words of the later version."""
    for old, new in RENAMED.items():
        text = re.sub(old, new, text)
    return text


def _is_notice(line: str) -> bool:
    """Whether a line, in later words, says that a key was renamed: it names the same one twice."""
    found = re.findall(r"\breadout\.\w+", line)
    return len(found) > len({*found})


def _equal(old: Any, new: Any, path: Path) -> bool:
    if isinstance(old, str) and isinstance(new, str):
        return canonical(old) == canonical(new)
    if type(old) is not type(new):
        return False
    if old == new or (old != old and new != new):
        return True
    if not isinstance(old, float) or not any(ENERGIES.search(part) for part in path):
        return False
    room = 1.0 if path[-1] == "relative_error" else max(abs(old), abs(new))
    return bool(abs(old - new) <= TOLERANCE * room)
