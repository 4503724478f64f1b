"""A reward from its name or file, in EasyR1's form. Scores are checked before they reach an advantage."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gmpo_vl.types import Verdict
from gmpo_vl.user_code import check_options, line_in, module_from_file, taken

# Rewards that lie with their task. A name, not an import: tasks are built on rewards.
IN_TASKS = {"countdown": "gmpo_vl.tasks.countdown.reward"}


@dataclass(frozen=True)
class Reward:
    """A loaded reward. Call it with a batch of inputs (`response`, `response_length`, `ground_truth`)."""

    name: str
    function: Callable[..., Any]
    batch: bool
    module: ModuleType
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, reward_inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
        """One dict of finite numbers per input, in order, `overall` among them.

        Raises ValueError otherwise.
        """
        scores: Any
        try:
            if self.batch:
                scores = self.function(reward_inputs, **self.kwargs)
            else:
                scores = [self.function(given, **self.kwargs) for given in reward_inputs]
        except Exception as error:
            if not self.by_path:
                raise
            raise ValueError(
                f"worker.reward.reward_function={self.name}: {line_in(self.module, error)} raised "
                f"{type(error).__name__}: {error}"
            ) from error
        if hasattr(scores, "tolist"):  # a numpy array
            scores = scores.tolist()
        if not isinstance(scores, list | tuple) or len(scores) != len(reward_inputs):
            count = (
                len(scores) if isinstance(scores, list | tuple) else f"a {type(scores).__name__}, no list of"
            )
            raise ValueError(
                f"reward {self.name}: {len(reward_inputs)} inputs gave {count} scores; return a list with "
                "one dict per input"
            )
        return [self._checked(i, score, reward_inputs[i]) for i, score in enumerate(scores)]

    @property
    def by_path(self) -> bool:
        """A user's file rather than a built-in."""
        return self.name.partition(":")[0].endswith(".py")

    def verdicts(self, reward_inputs: list[dict[str, Any]]) -> list[Verdict] | None:
        """What the verifier said about each input; None for a reward without verdicts."""
        explain = getattr(self.module, "verdicts", None)
        if explain is None:
            return None
        return explain(reward_inputs, **taken(explain, self.kwargs))

    def _checked(self, i: int, score: Any, given: dict[str, Any]) -> dict[str, float]:
        where = f"reward {self.name}, input {i} (ground_truth {str(given.get('ground_truth'))[:60]!r})"
        if not isinstance(score, Mapping) or "overall" not in score:
            raise ValueError(
                f"{where}: got {score!r}; each score is a dict with the key 'overall', such as {{'overall': "
                f"1.0}}"
            )
        for key, value in score.items():
            if isinstance(value, bool | str) or not _is_finite(value):
                raise ValueError(f"{where}: {key}={value!r} is not a finite number")
        return {key: float(value) for key, value in score.items()}


def load_reward(spec: str, kwargs: Mapping[str, Any] | None = None) -> Reward:
    """Load `geometry3k` (a built-in's name) or EasyR1's `path.py:function`. kwargs go to the function with
    every call.

    Raises ValueError for an unknown name, a missing file or function, and kwargs that the function does not
    take.
    """
    path, _, function_name = spec.partition(":")
    function_name = function_name or "compute_score"
    if path.endswith(".py"):
        module = module_from_file(Path(path), "reward", f"reward {spec!r}")
    else:
        if path not in built_in_rewards():
            known = ", ".join(built_in_rewards())
            raise ValueError(f"reward {spec!r} is unknown; it is one of {known}, or 'path.py:function'")
        module = importlib.import_module(IN_TASKS.get(path, f"gmpo_vl.rewards.{path}"))
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"reward {spec!r}: {path} has no function {function_name!r}")
    reward_type = getattr(module, "REWARD_TYPE", "batch")
    if reward_type not in ("batch", "sequential"):
        raise ValueError(f"reward {spec!r}: REWARD_TYPE={reward_type!r}; it is 'batch' or 'sequential'")
    check_options(function, 1, kwargs or {}, f"reward {spec!r}")
    return Reward(spec, function, reward_type == "batch", module, dict(kwargs or {}))


def built_in_rewards() -> list[str]:
    """The short names: files of this folder that state a REWARD_NAME, and rewards of built-in tasks."""
    here = Path(__file__).parent.glob("*.py")
    return sorted([*IN_TASKS, *(p.stem for p in here if "\nREWARD_NAME = " in p.read_text(encoding="utf-8"))])


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False
