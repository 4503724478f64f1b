"""Samples of games: a record is a turn, an episode is what counts (`samples.episodes` has them together).

The last turn of an episode says how it ended, in `turn`: `ending` and `reason` as in a run's samples, `won`
(null where the game never said, broke or was late) and `valid` (0.0 or 1.0 of each turn where the game said
it). Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import ENOUGH, mean_share
from gmpo_vl.rollout.episodes import FAILED, Ending, Outcome, episode_figures, reasons
from gmpo_vl.samples import SampleRecord, episodes

CATEGORY = "category"  # the rows' column by which games are counted
TOLD = 3  # reasons why games ended that are noted


def alone(score: dict[str, float], outcome: Outcome) -> dict[str, float]:
    """An episode's score, whatever was played beside it: a chunk must not change a sample.

    One that was cut, or whose prompt was too long, has not won; one that is over and never said `won` has no
    accuracy.
    """
    score = {name: value for name, value in score.items() if name != "accuracy"}
    if score.get("unscored") or (outcome.won is None and outcome.ending.kind == "over"):
        return score
    return score | {"accuracy": float(bool(outcome.won))}


def with_endings(records: Sequence[SampleRecord], outcomes: Sequence[Outcome]) -> list[SampleRecord]:
    """Each episode's last turn with what its game said. outcomes: of all episodes, in their order."""
    found: list[SampleRecord] = []
    for turns, outcome in zip(episodes(records), outcomes, strict=True):
        said = {"won": outcome.won, "valid": list(outcome.valid)}
        found += [*turns[:-1], replace(turns[-1], turn=turns[-1].turn | said)]
    return found


def outcome_of(turns: Sequence[SampleRecord]) -> Outcome:
    """Of an episode's records."""
    last = turns[-1]
    ending = Ending(last.turn["ending"], last.turn["reason"])
    length = sum(turn.length for turn in turns)
    won = None if ending.kind in FAILED else last.turn["won"]  # older samples have what it said
    return Outcome(last.id, ending, len(turns), length, won, tuple(last.turn["valid"]))


def figures_of_games(records: Sequence[SampleRecord], n: int) -> dict[str, Any]:
    """`episode`: means over episodes, as a run's `episode/*`. `categories`: {category: share of won episodes
    with the interval over games, and their number}, where the rows have that column. ci95 is None for few.
    """
    of_game = episodes(records)
    figures = episode_figures([outcome_of(turns) for turns in of_game])
    found: dict[str, Any] = {"episode": {name.partition("/")[2]: value for name, value in figures.items()}}
    if count := counted_by_score([turns[-1] for turns in of_game]):
        found["by_score"] = count
    shares: dict[str, list[float]] = {}
    for at in range(0, len(of_game), n):
        category = of_game[at][0].meta.get(CATEGORY)
        if category is not None:
            won = [turns[-1].correct for turns in of_game[at : at + n]]
            shares.setdefault(str(category), []).append(sum(won) / n)
    if shares:
        found["categories"] = {name: _share(np.array(values)) for name, values in shares.items()}
    return found


def _share(shares_Q: np.ndarray) -> dict[str, Any]:
    estimate = mean_share(shares_Q)
    interval = [estimate.low, estimate.high] if len(shares_Q) >= ENOUGH else None
    return {"value": estimate.value, "ci95": interval, "games": len(shares_Q)}


def counted_by_score(ends: Sequence[SampleRecord]) -> int:
    """Of how many episodes the game never said `won`. ends: their last turns."""
    return sum(end.outcome == "scored" and "accuracy" not in end.reward for end in ends)


def notes_of_games(records: Sequence[SampleRecord]) -> list[str]:
    """Why games ended that broke, were late or could not be shown, and how those counted that never said
    `won`; empty where there are none of them."""
    ends = [turns[-1] for turns in episodes(records) if turns[-1].turn]
    outcomes = [outcome_of(turns) for turns in episodes(records) if turns[-1].turn]
    notes, failed = [], [outcome for outcome in outcomes if outcome.ending.reason]
    if failed:
        said = list(reasons(failed).values())
        why = "; ".join(said[:TOLD] + ([f"{len(said) - TOLD} more reasons"] if len(said) > TOLD else []))
        notes.append(f"{len(failed)} of {len(outcomes)} episodes could not be played on: {why}")
    if count := sum(outcome.ending.kind in FAILED for outcome in outcomes):
        notes.append(f"{count} of {len(outcomes)} episodes broke or were late: they count as not won")
    if count := counted_by_score(ends):
        notes.append(
            f"the games of {count} of {len(ends)} episodes never said `won`: of these a score of at least "
            "0.5 counts as won; `reward` has the mean score"
        )
    return notes
