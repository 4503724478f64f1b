"""Scored groups of some rows: their prompts answered, or their games played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from gmpo_vl.engines.session import Asked, Session
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.episodes import Games, Outcome, Played, play, reasons
from gmpo_vl.rollout.scoring import score_groups
from gmpo_vl.types import Example, Group, Prompt, Sampling

TOLD = 5  # reasons why games broke that a run prints


def asked_of(games: Games | None, prompts: PromptSet, indices: Sequence[int]) -> Asked:
    """What is asked of these rows of a split."""
    if games is None:
        return prompts.encode(indices)
    return [prompts.examples[i] for i in indices]


def answered(
    s: Session,
    asked: Asked,
    positions: Sequence[int],
    sampling: Sampling,
    advance: Callable[[int], None],
) -> Played:
    """The groups with scores, by the policy of now. A request to stop ends them: Stopped is raised.

    asked: from `asked_of`.   advance: told how many of them are done.
    """
    if s.games is None:
        assert s.reward is not None
        groups = s.sample(cast(list[Prompt], asked), positions, sampling, advance)
        score_groups(groups, s.reward)
        return Played(groups)
    games = replace(s.games, say_won=s.progress.says_won)
    played = play(games, cast(list[Example], asked), positions, sampling, s.sample, advance)
    _tell_why(s, played.outcomes)
    return played


def with_lost(group: Group) -> Group:
    """The group with an accuracy of 0 for episodes that never said `won`; of games that do say it."""
    lost = [score | {"accuracy": score.get("accuracy", 0.0)} for score in group.scores]
    scores = [score if score.get("unscored") else with_part for score, with_part in zip(group.scores, lost)]
    return replace(group, scores=scores)


def _tell_why(s: Session, outcomes: Sequence[Outcome]) -> None:
    """Print why games broke: a few reasons in a run, each once."""
    for reason, said in reasons(outcomes).items():
        if reason in s.told:
            continue
        if len(s.told) < TOLD:
            print(said, flush=True)
        elif len(s.told) == TOLD:
            print("other reasons why games ended are not printed: see `reason` in rollouts/", flush=True)
        s.told.add(reason)
