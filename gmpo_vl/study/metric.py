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


def doubts(metric: str, configs: Iterable[Config]) -> list[str]:
    """The same of rewards in files: a line each, since answers other than those tried may have the part.

    The right answer and a wrong one to a few validation rows are tried. Raises ValueError where the rows
    cannot be read, and what the reward raises.
    """
    if _part(metric) in ALWAYS:
        return []
    found = []
    for config in {str(config.worker.reward): config for config in configs}.values():
        reward = _reward(config)
        if reward.by_path and not reward.asks_endpoint:
            problem = _problem(metric, reward, _parts_of_answers(reward, config))
            found += [f"{problem}; right and wrong answers were tried"] if problem else []
    return found


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
