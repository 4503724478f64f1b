"""Games of an evaluation, played by the function that a run plays with (rollout/episodes.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import RowError
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.evaluation.backends import Backend
from gmpo_vl.evaluation.games import alone, with_endings
from gmpo_vl.evaluation.protocols import Pictures
from gmpo_vl.models.other_pictures import with_grey_pictures
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.episodes import Games, first_turns, play
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.samples import SampleRecord, store_image
from gmpo_vl.types import Example, Group, ImageSource, Prompt, Sampling


@dataclass(frozen=True)
class Player:
    """Plays games with a model. shorten: cuts the answers, before the games are given them."""

    games: Games
    rows: Sequence[Example]
    answer: Backend
    sampling: Sampling
    shorten: Callable[[list[Group]], list[Group]] = list

    def ask(
        self, questions: Sequence[int], images: Path | None, progress: Callable[[int], None] | None = None
    ) -> list[SampleRecord]:
        """A record per turn of the n episodes of these rows' games, an episode's together. images: their
        folder; None keeps none."""

        def generate(prompts: Sequence[Prompt], _: Sequence[int], sampling: Sampling) -> list[Group]:
            return self.shorten(self.answer(prompts, sampling, progress=None))

        rows = [self.rows[i] for i in questions]
        how = self.sampling, generate, progress or (lambda _: None)
        played = play(self.games, rows, [0] * len(rows), *how)
        keep = (lambda pixels: "") if images is None else partial(store_image, images)
        for at, group in enumerate(played.groups):
            of_group = played.outcomes[at * self.sampling.n : (at + 1) * self.sampling.n]
            group.scores = [alone(score, outcome) for score, outcome in zip(group.scores, of_group)]
        return with_endings(to_records(played.groups, keep), played.outcomes)


def games_to_play(
    make: EnvironmentMaker,
    prompts: PromptSet,
    section: Mapping[str, Any],
    pictures: Pictures = "as_is",
    seed: int = 1,
) -> Games:
    """section: `environment`, all of its keys. seed: the evaluation's, for the games of the control `wrong`.

    Raises ValueError for a control of games that show no pictures.
    """
    encode = prompts.encoded
    if pictures != "as_is" and not _show_pictures(make, prompts, seed):
        raise ValueError(f"pictures: {pictures} is a control, and no game of these shows a picture at first")
    if pictures == "blank":
        encode = lambda turn: with_grey_pictures(prompts.encoded(turn))  # noqa: E731
    elif pictures == "wrong":
        encode = _with_wrong_pictures(make, prompts, seed)
    limit = prompts.settings.max_prompt_length
    return Games(make, encode, section["max_turns"], section["history_length"], limit)


def _show_pictures(make: EnvironmentMaker, prompts: PromptSet, seed: int) -> bool:
    turns = first_turns(make, prompts.examples, seed)
    return any(turn.images for turn in turns if not isinstance(turn, RowError))


def _with_wrong_pictures(
    make: EnvironmentMaker, prompts: PromptSet, seed: int
) -> Callable[[Example], Prompt]:
    """Every turn shows the first pictures of the next row's game in the place of its own.

    So what is shown depends on no other game that is played, and no state of the own one is in it.
    """
    ids = [key for key, _, _ in prompts.examples.texts()]
    if len(ids) < 2:
        raise ValueError("pictures: wrong takes those of another game, and there is one game only")
    place = {key: i for i, key in enumerate(ids)}

    @cache
    def pictures_after(key: str) -> tuple[ImageSource, ...]:
        other = prompts.examples[(place[key] + 1) % len(ids)]
        [turn] = first_turns(make, [other], seed)
        if isinstance(turn, RowError) or not turn.images:
            raise ValueError(f"{other.id} shows no picture at first, which {key} was to be shown")
        return turn.images

    def encode(turn: Example) -> Prompt:
        if not turn.images:
            return prompts.encoded(turn)
        other = pictures_after(turn.id)
        images = tuple(other[i % len(other)] for i in range(len(turn.images)))
        return prompts.encoded(replace(turn, images=images))

    return encode


def most_pictures(make: EnvironmentMaker, prompts: PromptSet, section: Mapping[str, Any], seed: int) -> int:
    """Of a turn, if later ones show as many as the first: its pictures and those of the history."""
    if not any(prompts.picture_lengths):
        return 0
    turns = first_turns(make, prompts.examples, seed)
    first = max((len(turn.images) for turn in turns if not isinstance(turn, RowError)), default=0)
    return first * (1 + min(section["history_length"], section["max_turns"] - 1))
