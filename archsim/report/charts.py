"""What every chart needs: Altair, and vl-convert that draws it without a browser."""

from __future__ import annotations

from typing import Any

from archsim.errors import MissingExtraError


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
