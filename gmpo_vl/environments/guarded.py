"""A game that breaks ends its episode, never the run.

An environment that raises (`sys.exit()`, too), or gives something else than it should, gives a last step
instead: reward 0, truncated, and `info["error"]` with the reason in a sentence. Where the game cannot be made
or reset, the first step says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gmpo_vl.environments import Environment, Observation, Step
from gmpo_vl.environments.messages import checked_observation, checked_step
from gmpo_vl.user_code import FAILURES, failure_in


def broken(error: str, last: Observation, **info: Any) -> Step:
    """The last step of an episode that cannot go on."""
    return Step(last, 0.0, terminated=False, truncated=True, info={"error": error, **info})


class Guarded:
    """A game in this process. What it raises ends its episode.

    cls: its class, for the messages about what it raises.
    """

    def __init__(self, make: Callable[[], Environment], cls: Callable[..., Environment]):
        self._make = make
        self._cls = cls
        self._game: Environment | None = None
        self._last = Observation("")
        self._error = "step was called before reset"

    def reset(self, seed: int) -> Observation:
        self._last, self._error = Observation(""), ""
        asked = f"{self._cls.__name__}(example, ...)"
        try:
            if self._game is None:
                self._game = self._make()
            asked = "reset"
            self._last = checked_observation(self._game.reset(seed))
        except FAILURES as error:
            self._error = f"{asked} raised {failure_in(self._file(), error)}"
        return self._last

    def step(self, answer: str) -> Step:
        if self._game is None or self._error:
            return broken(self._error, self._last)
        try:
            step = checked_step(self._game.step(answer))
        except FAILURES as error:
            self._error = f"step raised {failure_in(self._file(), error)}"
            return broken(self._error, self._last)
        self._last = step.observation
        return step

    def _file(self) -> str:
        """Of the class; empty where it comes from none, as in a notebook."""
        try:
            return inspect.getfile(self._cls)
        except (TypeError, OSError):
            return ""

    def close(self) -> None:
        game, self._game = self._game, None
        self._error = "step was called after close"
        if game is not None:
            with suppress(*FAILURES):  # the episode is over, and what it gave stands
                game.close()
