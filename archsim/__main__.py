"""``python -m archsim``: the same as the ``archsim`` command."""

from archsim.cli import main

main()
