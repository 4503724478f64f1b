"""What a study's runs would refuse of its rows, and what of them is worth a warning, before the first run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

from gmpo_vl.config import Config
from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.sources import missing
from gmpo_vl.data.templates import render_problem
from gmpo_vl.rewards.agreement import disagreement, rows_to_try
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.study.declaration import Study, StudyError
from gmpo_vl.study.grid import config_of, one_run_each
from gmpo_vl.study.metric import doubts

_SPLITS = ("train_files", "val_files")


def missing_rows(study: Study) -> list[str]:
    """A line for each data file of the study that is not there."""
    named = [("test_files", study.test_files)]
    for _, config in _runs(study, held_out=False):
        named += [(f"data.{key}", getattr(config.data, key)) for key in _SPLITS]
    once = dict.fromkeys(named)
    return [f"{key}: {problem}" for key, files in once if files and (problem := missing(files))]


def check_rows(study: Study) -> list[str]:
    """Lines to warn with. All files must be there.

    Raises StudyError where a prompt asks for the answer where the reward does not read it, which would end
    the run (`check_agreement`), of a method's training or of its held-out answers. Raises what reading rows
    and rewards raises.
    """
    from gmpo_vl.setup import shared_rows  # imports torch, which plans without rows need not

    training = [config for _, config in _runs(study, held_out=False)]
    said = [line for config in training for line in shared_rows(config)]
    tried: set[str] = set()
    read = cache(load_examples)
    for name, config in _runs(study, held_out=bool(study.test_files)):
        how = repr((config.data, config.worker.reward))
        if config.environment.name is None and how not in tried:
            tried.add(how)
            said += _disagreements(name, config, read)
    return list(dict.fromkeys([*said, *doubts(study.metric, training)]))


def _runs(study: Study, held_out: bool) -> Iterator[tuple[str, Config]]:
    """(name, settings) of a training run of each cell, and of its held-out one."""
    for run in one_run_each(study).values():
        for one in (run, *([replace(run, phase="test")] if held_out else [])):
            yield one.name, config_of(study, one)


def _disagreements(name: str, config: Config, read: Callable[..., ExampleSet]) -> list[str]:
    """Lines about prompts that do not say where the answer must stand. Raises StudyError for those that say
    another place than the reward's."""
    from gmpo_vl.models.prompts import prompt_settings  # imports torch

    settings, found = prompt_settings(config.data), []
    reward = load_reward(
        str(config.worker.reward.reward_function), config.worker.reward.reward_function_kwargs
    )
    for key in _SPLITS:
        rows = read(str(getattr(config.data, key)), settings.columns, settings.on_bad_row)
        tried = [rows[i] for i in rows_to_try(len(rows))]
        asked = [(render_problem(row.problem, settings.template), row) for row in tried]
        problem = disagreement(asked, reward)
        if problem is not None and problem.certain:
            raise StudyError(f"{name} cannot run: data.{key}: {problem.said}")
        found += [f"data.{key}: {problem.said}"] if problem is not None else []
    return found
