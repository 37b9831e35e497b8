"""Registry of variants: classes that stand for one value of a key, built in or from outside.

A *slot* is a place that one of several variants fills; its key says which (``readout.model``).
A class takes part by its decorator, with the fields of its own in a `Section` named ``Config``::

    @variant("readout", "flash_adc")
    class FlashAdc:
        "Flash converter of each column."

        class Config(Section):
            bits: Annotated[int, Field(ge=1, le=16)]

It may also give static methods over a whole config: ``check(config)`` raises ValueError for what
does not go together, ``times(config)`` yields (key, seconds) that the schedule counts, and
``notes(config)`` lines on what it takes for granted, which every result is to carry.
Other distributions name their modules in the entry point group `GROUP`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from archsim.config.section import Section
from archsim.errors import ConfigError, one_line

GROUP = "archsim.variants"
"""Entry point group of other distributions; a value names a module, or a class in one."""

BUILT_IN = "built-in"

AnyClass = TypeVar("AnyClass", bound=type)


@dataclass(frozen=True)
class Slot:
    """A place for one of several variants, chosen by the key ``section.choice``.

    `package`: modules in it are imported when the slot is first asked for its variants.
    """

    name: str
    section: str
    choice: str
    package: str | None = None

    @property
    def key(self) -> str:
        return f"{self.section}.{self.choice}"


@dataclass(frozen=True)
class Variant:
    """A class under its name in a slot; `origin` is `BUILT_IN`, a distribution or a module."""

    slot: Slot
    name: str
    cls: type[Any]
    origin: str

    @property
    def config(self) -> type[Section] | None:
        """The section of its own fields, if it has any."""
        return getattr(self.cls, "Config", None)

    @property
    def fields(self) -> Mapping[str, FieldInfo]:
        return {} if self.config is None else self.config.model_fields

    @property
    def description(self) -> str:
        """First line of its docstring."""
        return (self.cls.__doc__ or "").strip().partition("\n")[0]


@dataclass
class _Registry:
    slots: dict[str, Slot] = field(default_factory=dict)
    variants: dict[str, dict[str, Variant]] = field(default_factory=dict)
    reserved: dict[str, frozenset[str]] = field(default_factory=dict)
    explored: set[str] = field(default_factory=set)
    plugins_loaded: bool = False
    faults: tuple[str, ...] = ()
    version: int = 0


_registry = _Registry()
_origin: list[str] = []
"""Distribution whose entry point is being loaded, last."""


def declare(name: str, key: str, package: str | None = None) -> Slot:
    """A new slot, chosen by a key like ``readout.model``. Raises ConfigError if there is one."""
    section, _, choice = key.rpartition(".")
    slot = Slot(name, section, choice, package)
    if _registry.slots.setdefault(name, slot) != slot:
        raise ConfigError(f"slot {name!r} is declared already, by {_registry.slots[name].key}")
    _registry.variants.setdefault(name, {})
    return slot


def reserve(slot: str, names: Iterable[str]) -> None:
    """Names of a slot's own section, which no field of a variant can have."""
    slot_named(slot)
    _registry.reserved[slot] = frozenset(names)
    for each in _registry.variants[slot].values():
        _check_fields(each)


def reserved(slot: str) -> frozenset[str]:
    """What was reserved in a slot."""
    return _registry.reserved.get(slot, frozenset())


def variant(slot: str, name: str) -> Callable[[AnyClass], AnyClass]:
    """Class decorator: registers a class under a name in a slot.

    Raises ConfigError for an unknown slot, a name that another class has, and a field that cannot
    stand beside those of the other variants.
    """

    place = slot_named(slot)

    def register(cls: AnyClass) -> AnyClass:
        origin = _origin[-1] if _origin else _home(cls)
        if origin != BUILT_IN:  # names that are built in are taken, whoever comes first
            _explore(place)
        new = Variant(place, name, cls, origin)
        known = _registry.variants[slot]
        other = known.get(name)
        if other is not None and _identity(other.cls) != _identity(cls):
            raise ConfigError(
                f"{new.slot.key} {name} is {_identity(other.cls)} already ({other.origin}); "
                f"register {_identity(cls)} under another name"
            )
        _check_fields(new)
        known[name] = new
        _registry.version += 1
        return cls

    return register


def _home(cls: type) -> str:
    return BUILT_IN if cls.__module__.split(".")[0] == "archsim" else cls.__module__


def _identity(cls: type) -> str:
    """Module and name: what stays when a module is loaded again, also as a worker's main."""
    return f"{cls.__module__.replace('__mp_main__', '__main__')}.{cls.__qualname__}"


def _check_fields(new: Variant) -> None:
    """Raises ConfigError for fields that cannot be attributes of the slot's section."""
    config = new.config
    if config is not None and not (isinstance(config, type) and issubclass(config, Section)):
        raise ConfigError(f"{new.slot.key} {new.name}: its Config must be a Section")
    for name, info in new.fields.items():
        if name in reserved(new.slot.name) or hasattr(Section, name):
            raise ConfigError(f"{new.slot.key} {new.name}: a field cannot be named {name!r}")
        for other in _registry.variants[new.slot.name].values():
            theirs = other.fields.get(name)
            if other.name != new.name and theirs is not None and _kind(theirs) != _kind(info):
                raise ConfigError(
                    f"{new.slot.key} {new.name}: its field {name!r} is of another kind than that "
                    f"of {other.name}; name it otherwise"
                )


def _kind(info: FieldInfo) -> tuple[Any, Any]:
    """Type and unit: what fields of one name must share; bounds and defaults may differ."""
    units = [item.unit for item in info.metadata if hasattr(item, "unit")]
    return info.annotation, units


def slots() -> tuple[Slot, ...]:
    """All slots, in the order of their declaration."""
    return tuple(_registry.slots.values())


def slot_named(name: str) -> Slot:
    """A slot by its name; ConfigError if there is none."""
    found = _registry.slots.get(name)
    if found is None:
        raise ConfigError(f"no slot {name!r}; there are: {', '.join(_registry.slots)}")
    return found


def variants(slot: str) -> tuple[Variant, ...]:
    """The variants of a slot that are registered now, in their order."""
    _explore(slot_named(slot))
    return tuple(_registry.variants[slot].values())


def names(slot: str) -> tuple[str, ...]:
    """Their names."""
    return tuple(each.name for each in variants(slot))


def entry(slot: str, name: str) -> Variant:
    """A variant with all that is known of it; other distributions are asked for an unknown name.

    Raises ConfigError, with the nearest known name, if nobody has it.
    """
    if name not in names(slot):
        load_plugins()
    known = names(slot)
    if name in known:
        return _registry.variants[slot][name]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    key = slot_named(slot).key
    raise ConfigError("; ".join([f"{key}: no {slot} {name[:60]!r}; {hint}", *plugin_faults()]))


def find(slot: str, name: str) -> type[Any]:
    """The class of a variant; raises ConfigError as `entry` does."""
    return entry(slot, name).cls


def version() -> int:
    """Changes with every registration: what was worked out from the variants holds until then."""
    return _registry.version


def _explore(slot: Slot) -> None:
    """Import the modules of a slot's package, once; their variants come first, in that order."""
    if slot.package is None or slot.name in _registry.explored:
        return
    _registry.explored.add(slot.name)
    package = importlib.import_module(slot.package)
    places: dict[str, int] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{slot.package}."):
        importlib.import_module(module.name)
        places[module.name] = len(places)
    found = _registry.variants[slot.name]  # in whatever order others imported them
    found |= {
        each.name: found.pop(each.name)
        for each in sorted(found.values(), key=lambda v: places.get(v.cls.__module__, len(places)))
    }


def load_plugins() -> None:
    """Ask every installed distribution for its variants, once; see `plugin_faults`."""
    if _registry.plugins_loaded:
        return
    _registry.plugins_loaded = True
    faults = []
    import importlib.metadata

    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist is not None else point.value
        _origin.append(distribution)
        try:
            point.load()
        except Exception as error:  # whatever stands in it: one part must not stop the others
            reason = one_line(f"{type(error).__name__}: {error}", 160)
            faults.append(f"variants of {distribution} ({point.value}) cannot be used: {reason}")
        finally:
            _origin.pop()
    _registry.faults = tuple(faults)


def plugin_faults() -> tuple[str, ...]:
    """One line for each distribution whose variants could not be loaded."""
    return _registry.faults


@contextmanager
def temporary() -> Iterator[None]:
    """What is declared and registered inside is forgotten afterwards: for tests and scripts."""
    for slot in slots():  # a module registers once, when it is first imported
        _explore(slot)
    kept = _Registry(
        dict(_registry.slots),
        {slot: dict(found) for slot, found in _registry.variants.items()},
        dict(_registry.reserved),
        set(_registry.explored),
        _registry.plugins_loaded,
        _registry.faults,
    )
    try:
        yield
    finally:
        kept.version = _registry.version + 1
        vars(_registry).update(vars(kept))
