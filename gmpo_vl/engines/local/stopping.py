"""Ctrl-C and SIGTERM: the first asks the run to save and stop, the second stops it at once."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop, at a place where nothing of the current step has changed the model yet."""


class StopRequest:
    """Remembers the first signal. Use as a context manager; the former handlers come back afterwards."""

    def __init__(self) -> None:
        self.asked = False
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def raise_if_asked(self) -> None:
        if self.asked:
            raise Stopped

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print(
            f"\n{signal.Signals(number).name}: saving, then stopping (once more to stop at once)", flush=True
        )
