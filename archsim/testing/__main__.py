"""``python -m archsim.testing conform readout.sar_adc bits=6``: a variant put to the test."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from archsim.config.variants import find
from archsim.errors import ArchsimError, ConfigError, one_line
from archsim.testing.conformity import conform

USAGE = "usage: python -m archsim.testing conform SLOT.NAME [FIELD=VALUE ...]"


def main(arguments: Sequence[str]) -> int:
    """What it finds goes to stdout; the exit status is that of the error, if there is one."""
    try:
        if len(arguments) < 2 or arguments[0] != "conform":
            raise ConfigError(USAGE)
        slot, _, name = arguments[1].partition(".")
        print(conform(find(slot, name), **dict(_value(each) for each in arguments[2:])))
    except ArchsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _value(text: str) -> tuple[str, Any]:
    """A field and its value, as YAML has it. Raises ConfigError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"{text!r}: give FIELD=VALUE")
    try:
        return key, YAML(typ="safe").load(value)
    except YAMLError as error:
        raise ConfigError(f"{key}: {one_line(error)}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
