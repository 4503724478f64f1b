"""Ctrl-C and SIGTERM: the first asks the run to save and stop, the second stops it at once."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(SystemExit):
    """The run was asked to stop, at a place where what is saved is a state between two steps.

    Nobody having taken it, the process ends as shells and schedulers expect after this signal: with 128 + its number.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)


class StopRequest:
    """Remembers the first signal. Use as a context manager; the former handlers come back afterwards."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def raise_if_asked(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        print(
            f"\n{signal.Signals(number).name}: saving, then stopping (once more to stop at once)", flush=True
        )
