"""Does validation measure the metric of a study? Asked before the first run, as far as rewards tell."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gmpo_vl.config import Config
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.templates import render_problem
from gmpo_vl.rewards.about import known_parts
from gmpo_vl.rewards.agreement import parts_as_asked, rows_to_try
from gmpo_vl.rewards.loading import Reward, load_reward
from gmpo_vl.storage.names import nearest

ALWAYS = ("overall", "accuracy", "response_length", "truncated")  # whatever the reward


def unknown_metric(metric: str, config: Config) -> str | None:
    """What is wrong where a built-in reward gives no such part. metric: val/PART.

    Raises ValueError where the reward cannot be loaded.
    """
    if _part(metric) in ALWAYS:
        return None
    reward = _reward(config)
    parts = known_parts(reward)
    return None if parts is None else _problem(metric, reward, parts)


def check_parts(config: Config) -> None:
    """Raises ValueError where `reward_weights` or `filter_key` names a part that a built-in reward does not
    give, as `gmpo-vl train` does.
    """
    names_parts = config.algorithm.reward_weights or config.algorithm.online_filtering
    if names_parts and config.environment.name is None:
        from gmpo_vl.setup import load_configured_reward  # imports torch, which most plans need not

        load_configured_reward(config)


def returns_accuracy(config: Config) -> bool:
    """Is the reward known to have the part `accuracy`, a share of right answers? Without that part validation
    takes the whole score, in its own unit.
    """
    if config.environment.name is not None:
        return False
    return "accuracy" in (known_parts(_reward(config)) or ())


def doubts(metric: str, configs: Iterable[Config]) -> list[str]:
    """The same of rewards in files: a line each, since answers other than those tried may have the part.
    `reward_weights` and `filter_key` are asked, too.

    The right answer and a wrong one to a few validation rows are tried. Raises ValueError where the rows
    cannot be read, and what the reward raises.
    """
    found = []
    for config in configs:
        algorithm = config.algorithm
        named = algorithm.reward_weights or algorithm.online_filtering
        if config.environment.name is not None or (_part(metric) in ALWAYS and not named):
            continue
        reward = _reward(config)
        if reward.by_path and not reward.asks_endpoint:
            parts = _parts_of_answers(reward, config)
            problems = [_problem(metric, reward, parts), _unknown_parts(config, parts) if named else None]
            found += [f"{problem}; right and wrong answers were tried" for problem in problems if problem]
    return list(dict.fromkeys(found))


def _unknown_parts(config: Config, parts: Collection[str]) -> str | None:
    from gmpo_vl.setup import unknown_parts  # imports torch

    return unknown_parts(config.algorithm, parts) if parts else None


def _part(metric: str) -> str:
    return metric.removeprefix("val/")


def _reward(config: Config) -> Reward:
    settings = config.worker.reward
    return load_reward(str(settings.reward_function), settings.reward_function_kwargs)


def _problem(metric: str, reward: Reward, parts: Collection[str]) -> str | None:
    part, known = _part(metric), list(dict.fromkeys([*parts, *ALWAYS]))
    if part in known:
        return None
    near = nearest(part, known, cutoff=0.5)
    return (
        f"metric {metric}: no validation by the reward {reward.name} has a part {part!r}{near} (parts: "
        f"{', '.join(known)})"
    )


def _parts_of_answers(reward: Reward, config: Config) -> dict[str, None]:
    from gmpo_vl.models.prompts import prompt_settings  # imports torch, which most plans need not

    settings = prompt_settings(config.data)
    rows = load_examples(str(config.data.val_files), settings.columns, settings.on_bad_row)
    tried = [rows[i] for i in rows_to_try(len(rows))]
    asked = [(render_problem(row.problem, settings.template), row) for row in tried]
    return dict.fromkeys(part for prompt, row in asked for part in parts_as_asked(prompt, [row], reward))
