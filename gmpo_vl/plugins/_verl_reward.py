"""`compute_score` of gmpo_vl.plugins.verl: what verl hands a reward, and what it wants back.

verl leaves a prompt's whole group out where a reward raises, and it wants the same parts for every response,
from all of its workers. So an answer that a reward fails on scores 0 and says so, a reward that can score
nothing raises, and the parts are those of an empty response.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from threading import Lock
from typing import Any

from gmpo_vl.rewards.inputs import asks_pictures
from gmpo_vl.rewards.loading import Reward, built_in_rewards, load_reward

KEY = "reward.custom_reward_function.reward_kwargs"
FAILED = "reward_failed"  # 1 where the reward, or a worker of the verifier, failed on the response
_GIVEN_NAMES = {"overall": "score", "accuracy": "acc"}  # verl's names of ours
_OF_VERL = ("reward_router_address", "reward_model_tokenizer")  # where verl serves a reward model
_MOST_TOLD = 10  # failures of one process, one by one; of the later ones the 16th, 32nd, 64th, ...
_log = logging.getLogger(__name__)
_scorers: dict[str, Scorer] = {}
_loading = Lock()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    reward: str = "",
    **options: Any,
) -> dict[str, float]:
    """The score of one response: `score`, `acc`, the reward's other parts, `reward_failed`; all numbers.

    reward: a built-in one's name, or FILE.py:FUNCTION. options: the reward's. Both are reward_kwargs.
    ValueError for a reward or an option that there is not, for a row without what the reward asks for, and
    where a reward fails on its first response and on an empty one.
    """
    if not reward:
        raise ValueError(
            f"write +{KEY}.reward=NAME with one of {', '.join(built_in_rewards())}, or FILE.py:FUNCTION"
        )
    options = {key: value for key, value in options.items() if key not in _OF_VERL}
    named = repr((reward, sorted(options.items())))
    with _loading:
        if named not in _scorers:
            _scorers[named] = Scorer(reward, {key: _plain(value) for key, value in options.items()})
    return _scorers[named](solution_str, ground_truth, extra_info or {})


class Scorer:
    """A reward that is called with one response at a time, from any thread."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        try:
            self.reward: Reward = load_reward(name, options)
        except ValueError as error:
            raise ValueError(f"{KEY}: {error}") from error
        if asks_pictures(self.reward.asks):
            raise ValueError(f"{KEY}: the reward {name} asks for pictures, and verl hands a reward none")
        if self.reward.asks_endpoint:
            raise ValueError(
                f"{KEY}: the reward {name} asks an endpoint, and a response without a reply has no score: "
                "verl would train on a 0. Its own reward.reward_model serves a judge"
            )
        self.parts: tuple[str, ...] = ()  # of every score
        self.left_out: set[str] = set()  # parts that only some scores have
        self.failures = 0
        self._finding_parts = Lock()

    def __call__(self, response: str, gold: Any, row: Mapping[str, Any]) -> dict[str, float]:
        given = _Given({**self._asked(row), "response": response, "ground_truth": gold})
        try:
            score = self._scored(given)
        except Exception as error:
            self._find_parts(given, None)
            self._tell(error, given)
            return dict.fromkeys(self.parts, 0.0) | {FAILED: 1.0}
        self._find_parts(given, score)
        if more := score.keys() - {*self.parts, *self.left_out}:
            self.left_out |= more
            _log.warning(
                "the reward %s: the parts %s are not in the score of an empty response. verl wants the same "
                "parts for every response, so they are left out; the score stays. Return them always",
                *(self.reward.name, sorted(more)),
            )
        return {part: score.get(part, 0.0) for part in self.parts}

    def _find_parts(self, given: _Given, score: Mapping[str, float] | None) -> None:
        """Once: the parts of an empty response, or the score's own where the reward fails on that.

        score: of the response that was given; None where the reward failed on it. It raises where it fails
        on both: it can score nothing.
        """
        with self._finding_parts:
            if self.parts:
                return
            try:
                found = self._scored(_Given({**given, "response": ""}))
            except Exception:
                if score is None:
                    raise
                found = score
            self.parts = tuple(found)

    def _scored(self, given: _Given) -> dict[str, float]:
        score = self.reward([given])[0]
        if taken := sorted(score.keys() & {*_GIVEN_NAMES.values(), FAILED}):
            raise ValueError(f"reward {self.reward.name}: its parts {taken} have names that verl's have")
        verdict = (self.reward.verdicts([given]) or [None])[0]
        failed = verdict is not None and verdict.outcome in ("timeout", "error")
        named = {_GIVEN_NAMES.get(part, part): value for part, value in score.items()}
        return named | {FAILED: float(failed)}

    def _asked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the reward asks for of the row: extra_info itself is `meta`, its fields are the others."""
        fields = {**row, "meta": row}
        if missing := [name for name in self.reward.asks if name not in fields]:
            raise ValueError(
                f"the reward {self.reward.name} asks for {', '.join(missing)} of the row: put it into the "
                "row's extra_info, of which alone verl tells a reward"
            )
        return {name: copy.deepcopy(fields[name]) for name in self.reward.asks}

    def _tell(self, error: Exception, given: Mapping[str, Any]) -> None:
        self.failures += 1
        if self.failures > _MOST_TOLD and self.failures & (self.failures - 1):
            return
        _log.warning(
            "the reward failed, and the response scores 0 (failure %d of this process): %s. Ground truth %s, "
            "response %r",
            *(self.failures, error, repr(given["ground_truth"])[:80], given["response"][:200]),
        )


class _Given(dict[str, Any]):
    """A reward's input, which says what verl does not hand over."""

    def __missing__(self, key: str) -> Any:
        raise KeyError(f"{key}: verl hands a reward only {', '.join(self)}")


def _plain(value: Any) -> Any:
    """hydra's lists and mappings as Python's."""
    if hasattr(value, "_metadata"):
        from omegaconf import OmegaConf

        return OmegaConf.to_container(value, resolve=True)
    return value
