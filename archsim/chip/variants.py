"""The variants that archsim brings: every module in the folders of slots registers its own."""

from __future__ import annotations

import importlib
import pkgutil

from archsim.chip import activations, cells, readouts, refresh

for _slot in (cells, readouts, activations, refresh):
    for _module in pkgutil.iter_modules(_slot.__path__, f"{_slot.__name__}."):
        importlib.import_module(_module.name)
