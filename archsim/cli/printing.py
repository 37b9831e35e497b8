"""What several commands print alike: one JSON document, or tables and what nothing read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_found(
    document: Callable[[], dict[str, Any]],
    tables: Callable[[], RenderableType],
    unread_parameters: Sequence[str],
    as_json: bool,
) -> None:
    """Print a finding; the parameters that nothing read are named in both forms."""
    from archsim.report.formats import unread
    from archsim.report.terminal import show

    if as_json:
        whole = {**document(), "unread_parameters": [*unread_parameters]}
        click.echo(json.dumps(whole, indent=2, allow_nan=False))
        return
    show(tables())
    if unread_parameters:
        show(unread(unread_parameters))
