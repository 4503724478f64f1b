"""What a run refuses of its advantages: too few responses to compare, weights that cannot be, and what is of
games where there are none."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gmpo_vl.config.loss_checks import Say
from gmpo_vl.config.schema import GROUP_ADVANTAGES, STATE_ADVANTAGES, Config

_KEY = "algorithm.reward_weights"


def advantage_problems(config: Config, say: Say) -> Iterable[str]:
    estimator = config.algorithm.adv_estimator
    compares = estimator in (*GROUP_ADVANTAGES, *STATE_ADVANTAGES)
    if compares and config.worker.rollout.n == 1 and not config.trainer.val_only:
        yield (
            f"{say('worker.rollout.n')}: a group advantage compares at least 2 responses to one prompt (the "
            "paper: 8)"
        )
    if config.algorithm.reward_weights is not None:
        yield from _weight_problems(config, say)
    elif estimator == "gdpo":
        yield (
            f"{say('algorithm.adv_estimator')}: it normalises each part of the reward apart; name the parts "
            f"and their weights, such as {_KEY}: {{accuracy: 1.0, format: 0.5}}"
        )

    yield from _state_problems(config, say)
    if estimator == "rloo" and config.environment.name and config.algorithm.episode_baseline == "turns":
        yield (
            f"{say('algorithm.adv_estimator')}, {say('algorithm.episode_baseline')}: rloo leaves an episode "
            "out of its own baseline, and a mean over turns does not; write "
            "algorithm.episode_baseline: episodes"
        )


def _state_problems(config: Config, say: Say) -> Iterable[str]:
    """gigpo, and what belongs to it alone."""
    algorithm, which = config.algorithm, " and ".join(STATE_ADVANTAGES)
    if algorithm.adv_estimator in STATE_ADVANTAGES:
        if not config.environment.name:
            yield (
                f"{say('algorithm.adv_estimator')}: it compares turns of games that saw the same, and a row "
                "without environment.name is a question with one answer; write grpo"
            )
        return
    if algorithm.gamma != 1:
        yield f"{say('algorithm.gamma')}: only {which} discount, and gae, which has a critic; remove it"
    if "algorithm.step_advantage_weight" in config.written:
        yield f"{say('algorithm.step_advantage_weight')}: only {which} use it; remove it"


def _weight_problems(config: Config, say: Say) -> Iterable[str]:
    weights = config.algorithm.reward_weights or {}
    named = [part for part, weight in weights.items() if weight != 0]
    if not all(math.isfinite(weight) for weight in weights.values()):
        yield f"{say(_KEY)}: a weight is a finite number"
    if not named:
        yield (
            f"{say(_KEY)}: it names no part with a weight other than 0; null trains on the score's `overall`"
        )
    if "unscored" in weights:
        yield f"{say(_KEY)}: `unscored` says that there is no score, and can have no weight"
    shaped = {"overall", "overlong"} & set(named)
    if config.algorithm.overlong_responses == "soft" and len(shaped) != 1:
        yield (
            f"{say(_KEY)}: algorithm.overlong_responses: soft lowers `overall` by what it takes away and "
            "puts that into the part `overlong`; give one of the two a weight, as overlong: 1.0"
        )
