"""Figures in words for people. A reward of one's own may be of any size."""

from __future__ import annotations

_MANY = 1e6  # from here on powers of ten are easier to read than digits


def decimal(value: float, places: int = 3) -> str:
    """0.123, and 1.23e+300 for what would be a row of digits. places: after the point."""
    return f"{value:.3g}" if abs(value) >= _MANY else f"{value:.{places}f}"


def percent(share: float) -> str:
    """12.3%. A part that is called `accuracy` need not be a share."""
    return f"{decimal(100 * share, 1)}%"
