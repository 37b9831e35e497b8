"""``python -m archsim.models.training corpus|train ...``: the steps of training."""

from __future__ import annotations

import sys
from importlib import import_module

from archsim.errors import ArchsimError, MissingExtraError

STEPS = {
    "corpus": "archsim.models.training.corpus",
    "train": "archsim.models.training.train",
}


def main() -> None:
    """Run one step; a missing extra is one line and exit 3."""
    step = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        if step not in STEPS:
            print(f"usage: python -m archsim.models.training {'|'.join(STEPS)} --help")
            sys.exit(2)
        try:
            module = import_module(STEPS[step])
            module.main(sys.argv[2:])
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"training needs {error.name}: pip install 'archsim[train]'"
            ) from None
    except ArchsimError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
