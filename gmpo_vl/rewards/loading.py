"""A reward from its name or file, in EasyR1's form. Scores are checked before they reach an advantage."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gmpo_vl.rewards.inputs import OF_THE_ROW, inputs_of
from gmpo_vl.storage.names import nearest_or_all
from gmpo_vl.types import Example, Verdict
from gmpo_vl.user_code import (
    FAILURES,
    check_options,
    failure,
    function_in,
    line_in,
    module_from_file,
    no_exit,
    taken,
)

# Rewards that lie with their task. A name, not an import: tasks are built on rewards.
IN_TASKS = {"countdown": "gmpo_vl.tasks.countdown.reward"}


Answered = tuple[Example, Sequence[tuple[str, int]]]  # a row and its responses: (text, tokens)
Scored = list[tuple[dict[str, float], Verdict | None]]  # of each response, in order


Score = dict[str, float | None]  # only `overall` can be None: the reward could not score this response


@dataclass(frozen=True)
class Reward:
    """A loaded reward. Call it with a batch of inputs, as `inputs_of` makes them.

    asks: what its file asks for of the row (REWARD_INPUTS).
    """

    name: str
    function: Callable[..., Any]
    batch: bool
    module: ModuleType
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    asks: tuple[str, ...] = ()

    def scored(self, answered: Sequence[Answered]) -> Scored:
        """Score and verdict of every response, row after row, all in one call of the reward."""
        inputs = [given for example, texts in answered for given in inputs_of(self.asks, example, texts)]
        scores = _marked(self.scores(inputs))
        return list(zip(scores, self.verdicts(inputs) or [None] * len(inputs), strict=True))

    def __call__(self, reward_inputs: list[dict[str, Any]]) -> list[dict[str, float]]:
        """One dict of finite numbers per input, in order, `overall` among them.

        Raises ValueError otherwise, and where a response could not be scored.
        """
        scores = self.scores(reward_inputs)
        for i, score in enumerate(scores):
            if score["overall"] is None:
                raise ValueError(f"{self._where(i, reward_inputs[i])}: the reward could not score it")
        return scores  # type: ignore[return-value]

    def scores(self, reward_inputs: list[dict[str, Any]]) -> list[Score]:
        """As a call gives them, but an `overall` of None says that a response could not be scored."""
        scores: Any
        with self._told():
            if self.batch:
                scores = self.function(reward_inputs, **self.kwargs)
            else:
                scores = [self.function(given, **self.kwargs) for given in reward_inputs]
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
    def options(self) -> dict[str, Any]:
        """What the function is called with beside the inputs, defaults included."""
        optional = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: p.default for p in optional if p.default is not p.empty} | dict(self.kwargs)

    @property
    def by_path(self) -> bool:
        """A user's file rather than a built-in."""
        return self.name.partition(":")[0].endswith(".py")

    @property
    def asks_endpoint(self) -> bool:
        """Its file says that a call asks somebody else's model (ASKS_ENDPOINT): checks leave it alone."""
        return bool(getattr(self.module, "ASKS_ENDPOINT", False))

    def verdicts(self, reward_inputs: list[dict[str, Any]]) -> list[Verdict] | None:
        """What the verifier said about each input; None for a reward without verdicts."""
        explain = getattr(self.module, "verdicts", None)
        if explain is None:
            return None
        with self._told():
            found = explain(reward_inputs, **taken(explain, self.kwargs))
        if len(found) != len(reward_inputs):
            raise ValueError(
                f"reward {self.name}: {len(reward_inputs)} inputs gave {len(found)} verdicts; return one each"
            )
        return found

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a user's file raises is a ValueError that names its line."""
        try:
            yield
        except FAILURES as error:
            if not self.by_path:
                raise
            said = f"{line_in(self.module, error)} raised {failure(error)}"
            raise ValueError(f"reward {self.name}: {said}") from error

    def _where(self, i: int, given: dict[str, Any]) -> str:
        return f"reward {self.name}, input {i} (ground_truth {str(given.get('ground_truth'))[:60]!r})"

    def _checked(self, i: int, score: Any, given: dict[str, Any]) -> Score:
        where = self._where(i, given)
        if not isinstance(score, Mapping) or "overall" not in score:
            raise ValueError(
                f"{where}: got {score!r}; each score is a dict with the key 'overall', such as {{'overall': "
                f"1.0}}"
            )
        found: Score = {}
        for key, value in score.items():
            if key == "overall" and value is None:
                found[key] = None
            elif isinstance(value, bool | str) or not _is_finite(value):
                raise ValueError(f"{where}: {key}={value!r} is not a finite number")
            else:
                found[key] = float(value)
        return found


def _marked(scores: Sequence[Score]) -> list[dict[str, float]]:
    """With the part `unscored` where there is a response without a score: 1 for it, and an `overall` of 0
    that counts nowhere.
    """
    marked: list[Any] = [
        {**score, "overall": 0.0, "unscored": 1.0} if score["overall"] is None else score for score in scores
    ]
    every = {"unscored": 0.0} if any("unscored" in score for score in marked) else {}
    return [{**every, **score} for score in marked]


def load_reward(spec: str, kwargs: Mapping[str, Any] | None = None) -> Reward:
    """Load `geometry3k` (a built-in's name) or EasyR1's `path.py:function`. kwargs go to the function with
    every call. A path names its function: EasyR1 would take `main` where it does not, which few files have.

    Raises ValueError for an unknown name, a missing file or function, and kwargs that the function does not
    take. A built-in also checks their values; it raises ModuleNotFoundError where they ask for what is not
    installed.
    """
    if not isinstance(spec, str):
        raise ValueError(
            f"a reward is named by a text, a built-in's name or FILE.py:FUNCTION, not {spec!r:.80}"
        )
    path, _, function_name = spec.partition(":")
    if path.endswith(".py"):
        module = module_from_file(Path(path), "reward", f"reward {spec!r}")
    else:
        module, function_name = built_in_module(path), function_name or "compute_score"
    function = function_in(module, function_name, f"reward {spec!r}")
    reward_type = getattr(module, "REWARD_TYPE", "batch")
    if reward_type not in ("batch", "sequential"):
        raise ValueError(f"reward {spec!r}: REWARD_TYPE={reward_type!r}; it is 'batch' or 'sequential'")
    options = dict(kwargs or {})
    check_options(function, 1, options, f"reward {spec!r}")
    with no_exit(f"reward {spec!r}"):
        if hasattr(module, "REWARD_CHECK"):
            module.REWARD_CHECK(**options)
        elif not path.endswith(".py"):
            function([], **options)  # its own check of their values
        asks = _asks(module, options, spec)
    return Reward(spec, function, reward_type == "batch", module, options, asks)


def _asks(module: ModuleType, options: Mapping[str, Any], spec: str) -> tuple[str, ...]:
    """REWARD_INPUTS of a reward's file: names, or a function of the reward's options that returns names."""
    asks = getattr(module, "REWARD_INPUTS", ())
    if callable(asks):
        asks = asks(**taken(asks, options))
    said = f"reward {spec!r}: REWARD_INPUTS"
    if isinstance(asks, str) or not isinstance(asks, Sequence):
        raise ValueError(f"{said}={asks!r}; it is a tuple of names, such as ('images', 'meta')")
    for name in asks:
        if name not in OF_THE_ROW:
            known = ", ".join(OF_THE_ROW)
            near = nearest_or_all(name, OF_THE_ROW) if isinstance(name, str) else ""
            raise ValueError(f"{said} names {name!r}{near} (a reward can ask for {known})")
    return tuple(asks)


def built_in_module(name: str) -> ModuleType:
    """The module of a built-in reward. ValueError names the nearest, or all of them."""
    if name not in built_in_rewards():
        raise ValueError(
            f"no reward is called {name!r}{nearest_or_all(name, built_in_rewards())} (`gmpo-vl rewards` "
            "describes them; one of your own is FILE.py:FUNCTION)"
        )
    return importlib.import_module(IN_TASKS.get(name, f"gmpo_vl.rewards.{name}"))


def built_in_rewards() -> list[str]:
    """The short names: files of this folder that state a REWARD_NAME, and rewards of built-in tasks."""
    here = Path(__file__).parent.glob("*.py")
    return sorted([*IN_TASKS, *(p.stem for p in here if "\nREWARD_NAME = " in p.read_text(encoding="utf-8"))])


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False
