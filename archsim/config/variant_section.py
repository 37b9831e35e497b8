"""A section with a slot: its own fields and those of every variant that may be chosen there."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from archsim.config import variants
from archsim.config.quantity import Quantity
from archsim.config.section import Section, suggestion
from archsim.config.variants import Variant
from archsim.errors import ConfigError

VARIANT_FAULT = "variant"
"""Type of a fault whose message says all but the place."""


class VariantSection(Section):
    """Fields of the variant that the slot's key chooses stand beside the section's own.

    They are attributes like any other; for a type checker a variant reads them by
    ``cast(SarAdc.Config, config.readout)``. What a file says of a variant not chosen is checked and
    kept, but inactive; defaults are filled in for the chosen one alone.
    """

    model_config = ConfigDict(extra="allow")

    slot: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        variants.reserve(cls.slot, {*cls.model_fields, "chosen", "slot"})

    @property
    def chosen(self) -> Variant:
        """The variant that the slot's key names."""
        choice = variants.slot_named(self.slot).choice
        return variants.entry(self.slot, self.__dict__[choice])

    @classmethod
    def every_field(cls) -> Mapping[str, FieldInfo]:
        variants.variants(cls.slot)  # all of them are known now
        return _every_field(cls, variants.version())

    def inactive(self) -> frozenset[str]:
        extra, chosen = self.__pydantic_extra__ or {}, self.chosen
        unused = {name for name in extra if name not in chosen.fields}
        if chosen.config is not None:
            own = {name: extra[name] for name in chosen.fields if name in extra}
            unused |= chosen.config.model_construct(**own).inactive()
        return frozenset(unused)

    @model_validator(mode="after")
    def _as_chosen(self) -> Self:
        """Reads what is given by the types of its variants, and adds the chosen one's defaults."""
        given = self.__pydantic_extra__ or {}
        slot = variants.slot_named(self.slot)
        name = self.__dict__[slot.choice]
        try:
            chosen = self.chosen
        except ConfigError as error:
            raise _fault(slot.choice, str(error), name) from None
        values = {
            key: _of_another(chosen, key, value)
            for key, value in given.items()
            if key not in chosen.fields
        }
        if chosen.config is not None:
            own = {key: value for key, value in given.items() if key in chosen.fields}
            values |= _read(chosen, chosen.config, own)
        object.__setattr__(self, "__pydantic_extra__", values)
        return self


def _read(chosen: Variant, config: type[Section], own: Mapping[str, object]) -> dict[str, Any]:
    """The fields of the chosen variant."""
    try:
        return config.model_validate(own).__dict__
    except ValidationError as error:
        slot = chosen.slot
        for fault in error.errors(include_url=False):
            if fault["type"] == "missing" and len(fault["loc"]) == 1:
                needed = f"{slot.section}.{fault['loc'][0]}"
                text = f"{slot.key} {chosen.name} needs {needed}"
                raise _fault(slot.choice, text, chosen.name) from None
        raise


def _of_another(chosen: Variant, key: str, value: object) -> Any:
    """The value of a field that some other variant of the slot has."""
    slot = chosen.slot
    for ask in (variants.variants, _with_plugins):
        for other in ask(slot.name):
            if key in other.fields and other.config is not None:
                return getattr(_alone(other.config, key).model_validate({key: value}), key)
    known = [f"{slot.section}.{name}" for name in _section_fields(slot.name)]
    dotted = f"{slot.section}.{key}"
    text = f"unknown key {dotted!r} ({slot.key} {chosen.name}){suggestion(dotted, known)}"
    raise _fault(key, "; ".join([text, *variants.plugin_faults()]), value)


def _with_plugins(slot: str) -> tuple[Variant, ...]:
    variants.load_plugins()
    return variants.variants(slot)


def _section_fields(slot: str) -> list[str]:
    own = [name for name in variants.reserved(slot) if name not in {"chosen", "slot"}]
    return [*own, *(name for each in variants.variants(slot) for name in each.fields)]


def _fault(name: str, text: str, given: object) -> ValidationError:
    error = PydanticCustomError(VARIANT_FAULT, "{text}", {"text": text})
    details = InitErrorDetails(type=error, loc=(name,), input=given)
    return ValidationError.from_exception_data("config", [details])


@functools.lru_cache(maxsize=1024)
def _alone(config: type[Section], name: str) -> type[BaseModel]:
    """A section of one field alone: the others of a variant not chosen need not be there."""
    info = config.model_fields[name]
    definition: Any = (info.annotation, info)
    return create_model(config.__name__, __base__=Section, **{name: definition})


@functools.lru_cache(maxsize=64)
def _every_field(section: type[VariantSection], version: int) -> dict[str, FieldInfo]:
    """Own fields; behind the one that chooses, those of all variants, each once."""
    slot = variants.slot_named(section.slot)
    known = variants.variants(slot.name)
    union: dict[str, FieldInfo] = {}
    for name, info in section.model_fields.items():
        union[name] = info
        if name != slot.choice:
            continue
        if known:
            union[name] = choice = copy(info)
            choice.annotation = Literal[tuple(each.name for each in known)]  # type: ignore[assignment]
        for field in dict.fromkeys(field for each in known for field in each.fields):
            union[field] = _widest([v.fields[field] for v in known if field in v.fields])
    return union


def _widest(fields: list[FieldInfo]) -> FieldInfo:
    """One field for those of several variants that share a name, hence their type and unit."""
    first = fields[0]
    if all(other.metadata == first.metadata for other in fields):
        return first
    quantities = [item for each in fields for item in each.metadata if isinstance(item, Quantity)]
    widest = copy(first)
    widest.metadata = []
    if quantities:
        lows, highs = [q.ge for q in quantities], [q.le for q in quantities]
        low = None if None in lows else min(low for low in lows if low is not None)
        high = None if None in highs else max(high for high in highs if high is not None)
        widest.metadata = [replace(quantities[0], ge=low, le=high)]
    return widest
