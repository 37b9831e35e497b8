"""The kit: every built-in variant passes it, and what is wrong is caught by name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from pydantic import Field

from archsim.chip.action import Action, Footprint
from archsim.chip.cells.polynomial import PolynomialCurrent
from archsim.chip.pulses import longest_converted
from archsim.chip.readouts.charge_to_pulse import CONVERT_SCORE, ChargeToPulse
from archsim.chip.refresh.none import NoRefresh
from archsim.chip.stage import READ_KEY, READ_VALUE, WRITE_VALUE, After, Hold, Phase, Resource
from archsim.cli import application
from archsim.config import variants
from archsim.config.kinds import Joules
from archsim.config.section import Section
from archsim.config.variants import BUILT_IN, slots
from archsim.errors import ConfigError, ConformError
from archsim.hardware.load import load_hardware
from archsim.simulation import simulate_trace
from archsim.testing import conform
from archsim.testing.__main__ import main
from archsim.testing.cases import SMALL, small_trace

Array = NDArray[np.float64]

GIVEN: dict[str, dict[str, object]] = {
    "table": {"table": "measured.csv"},
    "rows": {"period": "700 ns", "read_back_time": "5 ns", "energy_per_read_back": "10 fJ"},
}
"""Values of fields that have no default."""

ALL = [(slot.name, each.name) for slot in slots() for each in variants.variants(slot.name)
       if each.origin == BUILT_IN]  # fmt: skip


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with variants.temporary():
        yield


@pytest.mark.parametrize(("slot", "name"), ALL)
def test_built_in_variants_conform(
    slot: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("measured.csv").write_text("stored_V,current_uA\n0,-9\n0.3,-2\n0.5,1\n0.9,12\n")
    found = variants.entry(slot, name)
    report = conform(found.cls, **GIVEN.get(name, {}))
    text = str(report)
    assert text.startswith(f"{found.slot.key} {name} conforms, on {len(report.checks)} hardwares")
    assert len(report.checks) + len(report.refused) + len(report.replaced) == 8
    assert len(report.checks) >= 6
    assert "mathematics: equal" in text
    if slot in {"readout", "refresh"}:
        assert "a wrong spend is noticed" in text


def test_each_can_be_imported_before_anything_else() -> None:
    """Whoever builds on a built-in class imports its module first."""
    modules = sorted({variants.entry(slot, name).cls.__module__ for slot, name in ALL})
    program = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for module in {modules}:\n"
        "    import_module(module)\n"
        "    for name in [n for n in sys.modules if n.partition('.')[0] == 'archsim']:\n"
        "        del sys.modules[name]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def caught(words: str, cls: type[Any], slot: str, **parameters: object) -> str:
    """What the kit says of a wrong variant: one line that names it."""
    with pytest.raises(ConformError, match=words) as error:
        conform(cls, slot, "wrong", **parameters)
    text = str(error.value)
    assert "\n" not in text
    assert " wrong: " in text
    return text


class Doubled(ChargeToPulse):
    """Counts every conversion twice."""

    def spend(self, work: Any) -> Any:
        for action, energy, operations in super().spend(work):
            yield action, energy, operations * 2


class Anything(ChargeToPulse):
    """Implies nothing."""

    def implied(self, shapes: Any) -> Any:
        yield CONVERT_SCORE, 0, np.inf


class Silent(ChargeToPulse):
    """Neither spends nor implies."""

    def spend(self, work: Any) -> Any:
        yield from ()

    def implied(self, shapes: Any) -> Any:
        yield from ()


class Giving(ChargeToPulse):
    """Conversions that give energy back."""

    def convert_energy(self, conversions: Array) -> Array:
        return -super().convert_energy(conversions)


class Astray(ChargeToPulse):
    """An area that reads what there is not."""

    def footprints(self, heads: int) -> Any:
        yield Footprint("converters", 1, 1e-10, (lambda config: config.converter.scoer,))


class Shrinking(ChargeToPulse):
    """An area below nothing."""

    def footprints(self, heads: int) -> Any:
        yield Footprint("converters", 1, -1e-12, (longest_converted,))


class Refunding(NoRefresh):
    """A cost below zero of what never happens."""

    ACTION = Action("refresh", "refund", "refresh", "head", lambda config: -1e-12)

    def spend(self, work: Any) -> Any:
        for _, energy, operations in super().spend(work):
            yield self.ACTION, energy, operations

    def implied(self, shapes: Any) -> Any:
        yield self.ACTION, 0, 0


BLOCKS = [
    (Doubled, "readout", "simulation, on 'one array': converters: convert: .*issued.*implied"),
    (Anything, "readout", "books, on 'one array': operations doubled, and nobody notices"),
    (Silent, "readout", "books, .*: spend yields no action"),
    (Giving, "readout", "simulation, .*: converters: convert: an energy is negative"),
    (Astray, "readout", r"energies and areas \(converters\), .*AttributeError.*scoer"),
    (Shrinking, "readout", "energies and areas, .*converters: their area is -.* m.2: expected"),
    (Refunding, "refresh", "energies and areas, .*refresh: refund: its cost is -1e-12 J"),
]


@pytest.mark.parametrize(("cls", "slot", "words"), BLOCKS)
def test_a_block_that_counts_wrong_is_caught(cls: type[Any], slot: str, words: str) -> None:
    caught(words, cls, slot)


def staged(*parts: object) -> type[Any]:
    """A readout with stages of its own."""

    class Staged(ChargeToPulse):
        """Its stages are wrong."""

        def stages(self, heads: int) -> Any:
            yield from parts

    return Staged


PULSE = Phase(READ_VALUE, (After(READ_KEY), After(WRITE_VALUE)), 15_000, (longest_converted,))
CONVERTERS = Resource("converters")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((CONVERTERS, PULSE, Hold("converters", READ_KEY, "read_valeu")),
         "converters, taken in read_key, are never given back: there is no phase 'read_valeu'"),
        ((CONVERTERS, PULSE, Hold("converters", READ_VALUE, READ_KEY)),
         "never given back: the end of read_key comes before"),
        ((PULSE, Hold("converters", READ_KEY, READ_VALUE)), "converters, which nobody declares"),
        ((CONVERTERS, PULSE, CONVERTERS), "resource converters is declared twice"),
        ((Phase(READ_VALUE, (After("read_keys"),), 1, ()),), "names the phase 'read_keys'"),
        ((Phase(READ_VALUE, (After("count"),), 1, ()),), "waits for count, which comes after it"),
        ((Phase(READ_VALUE, (After(READ_KEY),), -1, ()),), "read_value lasts -1 ticks"),
        ((Phase(READ_VALUE, (After(READ_KEY),), 1, (), "longest_pulse"),), "no activity"),
    ],
)  # fmt: skip
def test_stages_that_do_not_fit_together_are_caught(parts: tuple[object, ...], words: str) -> None:
    assert ": declaration, on 'one array'" in caught(words, staged(*parts), "readout")


@dataclass(frozen=True)
class Falling:
    """Less for more."""

    def pulses(self, score: Array, out: Array) -> Array:
        return np.clip(np.where(score > 2.0, 3.0 - score, score), 0.0, 1.0, out=out)


@dataclass(frozen=True)
class Negative:
    """Pulses of negative width."""

    def pulses(self, score: Array, out: Array) -> Array:
        return np.clip(score, -1.0, 1.0, out=out)


@dataclass(frozen=True)
class Resting:
    """A pulse where there is no score."""

    def pulses(self, score: Array, out: Array) -> Array:
        return np.clip(score + 0.5, 0.0, 1.0, out=out)


@dataclass(frozen=True)
class Normalised:
    """Looks at other columns, too."""

    def pulses(self, score: Array, out: Array) -> Array:
        np.clip(score, 0.0, 1.0, out=out)
        out *= 1.0 if out.size == 1 else 0.5
        return out


class Thawed:
    """A law that is no frozen dataclass."""

    def current(self, deviation: Array) -> Array:
        return deviation * 10.0


@dataclass
class Changing:
    """A dataclass that can be changed."""

    slope: float = 10.0

    def current(self, deviation: Array) -> Array:
        return deviation * self.slope


@dataclass(frozen=True)
class Burning:
    """Infinite at the rail."""

    def current(self, deviation: Array) -> Array:
        with np.errstate(divide="ignore"):
            return deviation / (0.45 - deviation)


@dataclass(frozen=True)
class Crowded:
    """A current that depends on the neighbours."""

    def current(self, deviation: Array) -> Array:
        return deviation * 10.0 + deviation.mean()


@dataclass(frozen=True)
class Drifting:
    """Never the same law twice."""

    number: float = field(default_factory=lambda: float(np.random.default_rng().random()))

    def current(self, deviation: Array) -> Array:
        return deviation * self.number


@dataclass(frozen=True)
class Bent(PolynomialCurrent):
    """Says one current and has the terms of another."""

    def current(self, deviation: Array, out: Array | None = None) -> Array:
        return super().current(deviation, out) * 1.001


def lawful(instance: Any) -> type[Any]:
    """A variant with that law."""

    class Lawful:
        """Of a law."""

        @staticmethod
        def law(config: Any) -> Any:
            return instance() if isinstance(instance, type) else instance

    return Lawful


LAWS = [
    ("activation", Falling, "activation, on 'one array': f decreases, from 1 at 2 to 0.99 at"),
    ("activation", Negative, "activation, .*expected 0 to 1, found -1"),
    ("activation", Resting, r"activation, .*: f\(0\): expected 0, found 0.5"),
    ("activation", Normalised, "digital twin, .*expected .*, found"),
    ("cell", Thawed, "laws, .*Thawed, is no frozen dataclass"),
    ("cell", Changing, "laws, .*Changing, is no frozen dataclass"),
    ("cell", Burning, "cell current, .*inf uA at a deviation of 0.45 V"),
    ("cell", Crowded, "cell current, .*depends on other cells"),
    ("cell", Drifting, "laws, .*equal configs, but laws with different hashes"),
    ("cell", Bent((0.0, 19.3)), "digital twin, .*scores of head 0, token 0 .*expected .*found"),
]


@pytest.mark.parametrize(("slot", "law", "words"), LAWS)
def test_a_wrong_law_is_caught(slot: str, law: Any, words: str) -> None:
    caught(words, lawful(law), slot)


class Undescribed(ChargeToPulse):
    """A field that says nothing."""

    class Config(Section):
        gain: Annotated[float, Field(gt=0)] = 1.0


class Unitless(ChargeToPulse):
    """A field of any unit."""

    class Config(Section):
        gain: float = Field(default=1.0, description="what?")


class Unread(ChargeToPulse):
    """A field that nothing reads."""

    class Config(Section):
        spare_energy: Joules = Field(default=1e-12, description="of nothing")


class Timeless(ChargeToPulse):
    """Names a time that is no field."""

    @staticmethod
    def times(config: Any) -> Any:
        yield "readout.pause", 1e-9


class Nameless(ChargeToPulse):
    __doc__ = ""


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Undescribed, "readout.gain has no description"),
        (Unitless, "readout.gain has no unit"),
        (Unread, "fields: nothing reads readout.spare_energy"),
        (Timeless, "times: readout.pause"),
        (Nameless, "the class has no docstring"),
    ],
)
def test_fields_that_a_file_cannot_use_are_caught(cls: type[Any], words: str) -> None:
    caught(words, cls, "readout")


def test_a_class_that_is_not_registered_is_refused_and_so_are_values_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="Doubled is no variant: decorate it"):
        conform(Doubled)
    with pytest.raises(ConfigError, match=r"charge_to_pulse has no field readout\.bits"):
        conform(ChargeToPulse, bits=4)


def test_own_examples_keys_with_a_dot_and_hardwares_that_are_refused() -> None:
    class Small(ChargeToPulse):
        """Goes with some hardwares."""

        class Config(Section):
            energy: Joules = Field(description="of one conversion")

        example = {"energy": "1 pJ", "converter.t_max": "30 ns"}  # noqa: RUF012

        def __init__(self, config: Any, sub_tiles: Any) -> None:
            super().__init__(config, sub_tiles)
            assert (config.readout.energy, config.converter.t_max) == (2e-12, 30e-9)

        @staticmethod
        def check(config: Any) -> None:
            if config.converter.buffers == 2:
                raise ValueError("converter.buffers: 1 is enough")

    report = conform(Small, "readout", "small", energy="2 pJ")
    assert list(report.refused) == ["two buffers, prefill in stages"]
    assert "not with 'two buffers, prefill in stages': " in str(report)


def test_the_example_is_refused_in_one_line_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(variants, "load_plugins", lambda: None)
    monkeypatch.delitem(variants._registry.variants["readout"], "comparator", raising=False)
    chip = Path(__file__).parents[2] / "examples" / "my_chip" / "chip.yaml"
    ran = CliRunner().invoke(application, ["config", "show", str(chip)])
    assert isinstance(ran.exception, ConfigError)
    words = ".*chip.yaml:6: readout.model: no readout 'comparator'; known: .*"
    assert re.fullmatch(words, str(ran.exception))


def test_the_script_in_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(__file__).parents[2] / "examples" / "my_chip" / "README.md"
    script = readme.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    module = ModuleType("in_the_readme")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(script, "script", "exec"), vars(module))
    report = conform(variants.find("activation", "root"))
    assert "converter.law root conforms, on 8 hardwares" in str(report)
    hardware = load_hardware(overrides={"converter.law": "root"})
    assert simulate_trace(small_trace(), hardware.changed({**SMALL})).ledger.events > 0


def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "converter.hard_sigmoid"]) == 2
    assert "no slot 'converter'" in capsys.readouterr().err
    assert main(["conform", "readout.charge_to_pulse", "bits=3"]) == 2
    assert "charge_to_pulse has no field readout.bits" in capsys.readouterr().err
    assert main(["conform"]) == main(["conform", "readout.digital_sum", "x"]) == 2
    assert "give FIELD=VALUE" in capsys.readouterr().err
    assert main(["conform", "activation.hard_sigmoid"]) == 0
    assert "converter.law hard_sigmoid conforms, on 8 hardwares" in capsys.readouterr().out
