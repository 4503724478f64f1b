"""Faults of the shared forward that a test plants."""

from gmpo_vl.models import forward
from gmpo_vl.models.layout import Segment


def one_further(monkeypatch):
    """Every answer's positions are one too large."""
    real = forward.response_positions
    monkeypatch.setattr(forward, "response_positions", lambda positions, length: real(positions, length) + 1)


def sees_siblings(monkeypatch):
    """An answer attends to all that stands between its prompt and itself."""

    def segment(start, length, prefix_start=0, prefix_length=0):
        return Segment(start, length, prefix_start, start - prefix_start if prefix_length else 0)

    monkeypatch.setattr(forward, "Segment", segment)
