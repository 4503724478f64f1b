"""What a run refuses of its environment: keys that need one, and what has no meaning with games."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gmpo_vl.config.loss_checks import Say
from gmpo_vl.config.schema import Config, all_keys, value_of
from gmpo_vl.storage.files import exists

_NAME = "environment.name"
_OF_EPISODES = ("algorithm.episode_weight", "algorithm.episode_baseline", "algorithm.turn_penalty")


def environment_problems(config: Config, say: Say) -> Iterable[str]:
    if config.environment.name is None:
        ours = [key for key in all_keys() if key.startswith("environment.") and key != _NAME]
        for key in (*ours, *_OF_EPISODES):
            if key in config.written:
                yield f"{say(key)}: only games have it; name what is played in {_NAME}, or remove it"
        return
    yield from _name_problems(config, say)
    for key, (off, why) in _refused(config).items():
        written = "null" if off is None else off
        yield f"{say(key)}: {why}; write {written}, or train without {_NAME}"


def refused_keys(config: Config) -> list[str]:
    """Keys that cannot go with the games that the configuration plays."""
    return [] if config.environment.name is None else list(_refused(config))


def _name_problems(config: Config, say: Say) -> Iterable[str]:
    """Of the files that are named. What a class takes is seen when it is loaded."""
    path = (config.environment.name or "").rpartition(":")[0]
    if path.endswith(".py") and not exists(path, is_file=True):
        yield f"{say(_NAME)}: there is no file {path} (seen from {Path.cwd()})"
    template = config.environment.template
    if template is not None and ("/" in template or template.endswith(".jinja")) and not exists(template):
        yield f"{say('environment.template')}: there is no such file (seen from {Path.cwd()})"


def _refused(config: Config) -> dict[str, tuple[object, str]]:
    """{key: (what leaves it out, why)} of the keys whose values cannot go with games."""
    return {key: (off, why) for key, off, why in _apart_from_games(config) if value_of(config, key) != off}


def _apart_from_games(config: Config) -> Iterable[tuple[str, object, str]]:
    """(key, what leaves it out, why)."""
    yield "worker.reward.reward_function", None, "the environment scores its own games"
    yield "worker.reward.reward_function_kwargs", {}, "the environment scores its own games"
    yield (
        "data.format_prompt",
        None,
        "environment.template says what a turn shows, and the environment brings one",
    )
    yield (
        "algorithm.reward_weights",
        None,
        "a game has one reward, the sum of its steps', and no parts that could be weighed",
    )
    if config.algorithm.online_filtering and config.algorithm.filter_key != "overall":
        yield "algorithm.filter_key", "accuracy", "a game's score has the parts overall and accuracy alone"
    if config.algorithm.adv_estimator == "gdpo":
        why = "it normalises the parts of a reward apart, and a game's has none"
        yield "algorithm.adv_estimator", "grpo", why
    if config.algorithm.overlong_responses == "soft":
        why = "it lowers the score of one answer by its length, and a game's score belongs to all its turns"
        yield "algorithm.overlong_responses", "score", why
    why = "it asks whole questions with other pictures, and a game cannot be asked again at one turn"
    yield "trainer.look_freq", -1, why
    why = "it compares with masked pictures of a row, and the pictures of games come from their turns"
    yield "algorithm.papo.kl_prcp_coef", 0.0, why
    why = "it asks rows as single questions, and games are not"
    yield "trainer.kl_to_start_freq", -1, why
    if config.worker.actor.loss_type.startswith("easyr1/"):
        why = "EasyR1's own losses know one answer a prompt and no weights of turns"
        yield "worker.actor.loss_type", "gmpo", why
