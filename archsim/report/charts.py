"""What every chart needs: Altair, vl-convert that draws it without a browser, and colours."""

from __future__ import annotations

import re
from typing import Any

from archsim.errors import MissingExtraError

INK = ("#222222", "#ececec")
"""Of text, axes and what is no series: on a light page, and on a dark one."""

PAPER = ("#ffffff", "#15181c")
"""The pages themselves."""

SERIES = (
    ("#3a0afc", "#a99d14"),
    ("#b4910f", "#ca21fe"),
    ("#176b79", "#fd94fd"),
    ("#ba5357", "#0aa9a2"),
    ("#9f80e5", "#8ffc9d"),
    ("#6e2f01", "#f81280"),
    ("#38a392", "#05786a"),
    ("#083172", "#73700a"),
)
"""Colours of series on a light and on a dark page, found by search: any two, and `INK`, differ by
at least 16 (CIE 2000) for normal eyes and for protanopes, deuteranopes and tritanopes (Machado et
al., 2009); each has a contrast of at least 3 with its page. A test computes both."""


def chart_tools() -> tuple[Any, Any]:
    """The modules `altair` and `vl_convert`.

    Raises MissingExtraError without the extra ``report``.
    """
    try:
        import altair
        import vl_convert
    except ImportError:
        raise MissingExtraError(
            "charts need altair and vl-convert-python: pip install 'archsim[report]'"
        ) from None
    return altair, vl_convert


def with_titles(svg: str) -> str:
    """The marks' descriptions also as titles, which browsers show under the pointer."""
    return re.sub(
        r'<path aria-label="([^"]*)"([^>]*?)(?:/>|></path>)',
        r'<path aria-label="\1"\2><title>\1</title></path>',
        svg,
    )
