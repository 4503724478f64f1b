"""Episodes of games, turn by turn: which are shown, and what of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmpo_vl.report.cards import choose, kind_of, pictures_of, spread
from gmpo_vl.runs import Run
from gmpo_vl.samples import SampleRecord, read_samples

STEPS = 4  # training steps shown, from first to last
GAMES_PER_STEP = 3
EPISODES = 2  # of a game: a won and a lost one where it has both
TWICE = 4  # games of an evaluation shown before and after


@dataclass(frozen=True)
class ShownTurn:
    """A turn as the policy saw and answered it. pictures: data URIs, None for a lost file."""

    record: SampleRecord
    pictures: list[str | None]

    @property
    def gain(self) -> float:
        """What the turn gave: its reward less its penalty."""
        return float(self.record.turn["reward"]) - float(self.record.turn["penalty"])


@dataclass(frozen=True)
class GameCard:
    """One game of a step, with some of its episodes. won, played: of all of them; None: they never say it."""

    step: int
    kind: str
    id: str
    won: int | None
    played: int
    episodes: list[list[ShownTurn]]


def game_cards(run: Run) -> list[GameCard]:
    """Games of a few steps, first and last among them; none of a run without games."""
    steps = spread(run.rollout_steps(), STEPS)
    return [card for step in steps for card in cards_of(run.folder, step, run.read_rollouts(step))]


def cards_of(
    folder: Path, step: int, records: Iterable[SampleRecord], count: int = GAMES_PER_STEP
) -> list[GameCard]:
    """Of a step's records those that are turns; games that were won and lost come first. An evaluation's are
    of step 0."""
    games: dict[str, list[SampleRecord]] = {}
    for record in records:
        if record.turn:
            games.setdefault(record.group, []).append(record)
    return [_card(folder, step, game) for game in choose(list(games.values()), count)]


@dataclass(frozen=True)
class PlayedTwice:
    """A game of the evaluations before and after training: the first episode of each."""

    id: str
    before: list[ShownTurn]
    after: list[ShownTurn]


def games_before_and_after(run: Run) -> list[PlayedTwice]:
    """The first games of eval/before and eval/after, whatever came of them; none without both."""
    folders = [run.folder / "eval" / name for name in ("before", "after")]
    if not all((folder / "samples.jsonl").is_file() for folder in folders):
        return []
    before, after = map(_first_episodes, folders)
    return [PlayedTwice(key, before[key], after[key]) for key in before if key in after]


def _first_episodes(folder: Path) -> dict[str, list[ShownTurn]]:
    """{id: its first episode} of the first games of an evaluation, without reading the others."""
    found: dict[str, list[ShownTurn]] = {}
    for record in read_samples(folder / "samples.jsonl"):
        if not record.turn or (record.id not in found and len(found) == TWICE):
            break
        if record.turn["episode"] == 0:
            found.setdefault(record.id, []).append(ShownTurn(record, pictures_of(folder, record)))
    return found


def _card(folder: Path, step: int, turns: Sequence[SampleRecord]) -> GameCard:
    episodes: dict[int, list[SampleRecord]] = {}
    for record in turns:
        episodes.setdefault(record.turn["episode"], []).append(record)
    says_won = any("accuracy" in record.reward for record in turns)
    by_outcome = {of[0].correct: of for of in reversed(episodes.values())}  # the first of each outcome
    shown = [by_outcome[won] for won in (True, False) if won in by_outcome][:EPISODES]
    return GameCard(
        step,
        kind_of(turns[0]),
        turns[0].id,
        sum(of[0].correct for of in episodes.values()) if says_won else None,
        len(episodes),
        [[ShownTurn(record, pictures_of(folder, record)) for record in of] for of in shown],
    )
