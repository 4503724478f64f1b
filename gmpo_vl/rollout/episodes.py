"""Games that the policy plays in lock step: all episodes that are not over are asked for their turn together.

The G episodes of a row are the same game with the same seed. At the first turn the row's prompt is asked once
for G answers, with the row's id and position, as without games. Each later turn asks one answer of an
episode, and is seeded by the row's id with episode and turn (`turn_name`). So nothing depends on which games
are played together, or in which order. Sampled tokens are never encoded again: a turn's prompt is made of
texts and pictures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gmpo_vl.data.rows import RowError
from gmpo_vl.environments import Environment, Observation, Step
from gmpo_vl.environments.guarded import broken
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.environments.turns import turn_example
from gmpo_vl.rollout.seeds import game_seed, turn_name
from gmpo_vl.types import Example, Group, Prompt, Response, Sampling, Turn

if TYPE_CHECKING:  # readers of results import this without torch
    import torch

Generate = Callable[[Sequence[Prompt], Sequence[int], Sampling], list[Group]]
Each = Callable[..., list[Any]]  # `map` over games, as a list

NOTHING = Observation("")
FAILED = "broken", "late"  # endings that are no doing of the policy
FIRST_TURNS = 256  # rows whose first turns are made at once


@dataclass(frozen=True)
class Games:
    """What is played, and how its turns become prompts.

    encode: a turn as an Example, to its prompt.   max_prompt_length: tokens, `data.max_prompt_length`.
    say_won: is it known that these games say `won`? An episode that never said it has lost then.
    """

    make: EnvironmentMaker
    encode: Callable[[Example], Prompt]
    max_turns: int
    history_length: int
    max_prompt_length: int
    say_won: bool = False


@dataclass(frozen=True)
class Ending:
    """Why an episode ended. kind: `over` (as the game says), `cut` (max_turns), `broken`, `late` or
    `too_long` (its prompt).   reason: a sentence, of the last three."""

    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What is counted of an episode. length: response tokens of all turns.   won: None where the game never
    said, broke or was late.   valid: 0.0 or 1.0 of each turn where the game said it."""

    row: str
    ending: Ending
    turns: int
    length: int
    won: bool | None
    valid: tuple[float, ...]


@dataclass(frozen=True)
class Played:
    """Groups with scores, one of an episode each, and the outcomes of all their episodes."""

    groups: list[Group]
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass
class Known:
    """What was shown. prompts: of turns, by group, text and pictures.   pictures: each held once, by what the
    model sees of it; a turn's history shows those of the turns before again."""

    prompts: dict[tuple[Any, ...], Prompt] = field(default_factory=dict)
    pictures: dict[bytes, torch.Tensor] = field(default_factory=dict)

    def shared(self, prompt: Prompt) -> Prompt:
        """With the tensors of equal pictures that are held already."""
        shown = zip(prompt.picture_keys, prompt.images)
        images = tuple(self.pictures.setdefault(key, image) for key, image in shown)
        return replace(prompt, images=images)


@dataclass
class Episode:
    """A game as far as it has been played. prompt: of the turn that is asked now.

    refused: why the first turn could not be shown: the game is then not asked for a step.
    """

    row: Example
    position: int
    number: int
    game: Environment
    now: Observation = NOTHING
    prompt: Prompt | None = None
    refused: Ending | None = None
    ending: Ending | None = None
    past: list[tuple[Observation, str]] = field(default_factory=list)
    turns: list[Response] = field(default_factory=list)
    infos: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Of its group."""
        return f"{self.row.id}@{self.position}"

    @property
    def won(self) -> bool | None:
        """What the game said last of it; None where it never did, and where it failed after that."""
        said = [bool(info["won"]) for info in self.infos if info.get("won") is not None]
        failed = self.ending is not None and self.ending.kind in FAILED
        return said[-1] if said and not failed else None

    def reset(self, run_seed: int) -> None:
        self.now = self.game.reset(game_seed(run_seed, self.row.id, self.position))

    def step(self, response: Response) -> Step:
        if self.refused is not None:
            return broken(self.refused.reason, self.now)
        return self.game.step(response.text)

    def take(self, response: Response, step: Step, max_turns: int) -> None:
        """Keep what was answered, and what it led to."""
        assert self.prompt is not None
        number = len(self.turns) + 1
        of = step.action, step.reward, step.penalty, name_of(self.now)
        self.turns.append(replace(response, turn=Turn(self.prompt, self.number, number, *of)))
        self.past.append((self.now, step.action))
        self.infos.append(step.info)
        self.now = step.observation
        if "error" in step.info:
            kind = "late" if step.info.get("late") else "broken"
            self.ending = self.refused or Ending(kind, step.info["error"])
        elif step.ended:
            self.ending = Ending("over")
        elif number >= max_turns:
            self.ending = Ending("cut")


def play(
    games: Games,
    rows: Sequence[Example],
    positions: Sequence[int],
    sampling: Sampling,
    generate: Generate,
    progress: Callable[[int], None] = lambda _count: None,
) -> Played:
    """`sampling.n` episodes of every row's game, in order, with scores.

    positions: of the rows in the data order, for the seeds.   generate: `sampling.n` answers to each prompt.
    progress: told how many rows' games are over. Every game is closed, also where this is interrupted.
    """
    pairs = zip(rows, positions, strict=True)
    episodes = [Episode(row, at, k, games.make(row)) for row, at in pairs for k in range(sampling.n)]
    known = Known()
    try:
        with _each(games.make) as each:
            each(lambda episode: episode.reset(sampling.seed), episodes)
            live = episodes
            while live:
                for episode in live:
                    _show(games, episode, known)
                asked = [episode for episode in live if episode.ending is None]
                answers = _answers(asked, sampling, generate)
                steps = each(lambda episode, answer: episode.step(answer), asked, answers)
                for episode, answer, step in zip(asked, answers, steps):
                    episode.take(answer, step, games.max_turns)
                each(lambda episode: episode.game.close(), [e for e in live if e.ending is not None])
                still = [episode for episode in asked if episode.ending is None]
                progress(len({episode.key for episode in live}) - len({episode.key for episode in still}))
                live = still
    finally:
        for episode in episodes:
            episode.game.close()
    of_rows = [episodes[i : i + sampling.n] for i in range(0, len(episodes), sampling.n)]
    outcomes = [_outcome(episode) for episode in episodes]
    says_won = games.say_won or say_won(outcomes)
    return Played([_group(of_row, says_won) for of_row in of_rows], outcomes)


@contextmanager
def _each(make: EnvironmentMaker) -> Iterator[Each]:
    """`map` over games: in threads where each game has a process of its own. Where the block is interrupted
    the processes are ended, so that no thread waits for one. A generator that is left half read ends none:
    other games of the maker may be played."""
    if make.processes is None:
        yield lambda function, *of: list(map(function, *of))
        return
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        try:
            yield lambda function, *of: list(pool.map(function, *of))
        except GeneratorExit:
            raise
        except BaseException:
            make.close()
            raise


def _show(games: Games, episode: Episode, known: Known) -> None:
    """Make the prompt of the episode's turn. An episode whose turn cannot be shown ends.

    Each needs one turn that is answered, so at the first one the task is shown without an observation then,
    as where a reset broke.
    """
    found = _prompt(games, episode, known)
    if isinstance(found, Ending) and not episode.turns:
        episode.refused, episode.now = found, NOTHING
        found = _prompt(games, episode, known)
        if isinstance(found, Ending):
            raise ValueError(
                f"{episode.row.id}: the first turn cannot be shown, not even without what is seen: "
                f"{found.reason}"
            )
    if isinstance(found, Ending):
        episode.ending = found
    else:
        episode.prompt = found


def _prompt(games: Games, episode: Episode, known: Known) -> Prompt | Ending:
    """The turn's prompt, the same object for turns of a group that show the same; or why it cannot be."""
    where = f"turn {len(episode.turns) + 1}"
    try:
        turn = turn_example(episode.row, episode.past, episode.now, games.history_length, games.make.template)
        shown = tuple(image if isinstance(image, bytes | str) else id(image) for image in turn.images)
        key = episode.key, turn.problem, shown
        if key not in known.prompts:
            known.prompts[key] = known.shared(games.encode(turn))
    # A picture that does not decode, a template, a text that no chat format takes.
    except ValueError as error:
        return Ending("broken", f"{where} cannot be shown: {error}")
    length = len(known.prompts[key].ids_P)
    if length > games.max_prompt_length:
        reason = f"{where} has {length:,} tokens, data.max_prompt_length is {games.max_prompt_length:,}"
        return Ending("too_long", reason)
    return known.prompts[key]


def _answers(episodes: Sequence[Episode], sampling: Sampling, generate: Generate) -> list[Response]:
    """An answer to each episode's prompt."""
    if not episodes:
        return []
    if episodes[0].turns:  # lock step: all are at one turn
        return _one_by_one(episodes, sampling, generate)
    n = sampling.n
    firsts = episodes[::n]
    found = generate([_asked(e) for e in firsts], [e.position for e in firsts], sampling)
    answers = [answer for group in found for answer in group.responses]
    # Of one seed they begin alike, unless one broke.
    others = [i for i, episode in enumerate(episodes) if episode.prompt is not episodes[i - i % n].prompt]
    if others:
        for i, answer in zip(others, _one_by_one([episodes[i] for i in others], sampling, generate)):
            answers[i] = answer
    return answers


def _one_by_one(episodes: Sequence[Episode], sampling: Sampling, generate: Generate) -> list[Response]:
    """One answer each, seeded by row, episode and turn."""
    prompts = []
    for episode in episodes:
        prompt = _asked(episode)
        name = turn_name(episode.row.id, episode.number, len(episode.turns) + 1)
        prompts.append(replace(prompt, example=replace(prompt.example, id=name)))
    found = generate(prompts, [episode.position for episode in episodes], replace(sampling, n=1))
    return [group.responses[0] for group in found]


def _asked(episode: Episode) -> Prompt:
    assert episode.prompt is not None
    return episode.prompt


def _group(episodes: Sequence[Episode], says_won: bool) -> Group:
    """A row's episodes as a group."""
    first = episodes[0].turns[0]
    assert first.turn is not None
    scores = [_score(episode, says_won) for episode in episodes]
    turns = [answer for episode in episodes for answer in _ended(episode)]
    return Group(episodes[0].key, first.turn.prompt, turns, scores, [None] * len(scores))


def _ended(episode: Episode) -> list[Response]:
    """Its turns, the last with how the episode ended."""
    *before, last = episode.turns
    assert last.turn is not None
    assert episode.ending is not None
    turn = replace(last.turn, ending=episode.ending.kind, reason=episode.ending.reason)
    return [*before, replace(last, turn=turn)]


def _score(episode: Episode, says_won: bool) -> dict[str, float]:
    """Of a game that broke or was late nobody knows how it would have ended: it is `unscored`, as a response
    that a reward could not score."""
    assert episode.ending is not None
    if episode.ending.kind in FAILED:
        return {"overall": 0.0, "unscored": 1.0}
    rewards = [answer.turn.reward for answer in episode.turns if answer.turn is not None]
    return {"overall": float(sum(rewards))} | ({"accuracy": float(bool(episode.won))} if says_won else {})


def _outcome(episode: Episode) -> Outcome:
    assert episode.ending is not None
    valid = tuple(float(bool(info["valid"])) for info in episode.infos if "valid" in info)
    length = sum(len(answer.ids_T) for answer in episode.turns)
    return Outcome(episode.row.id, episode.ending, len(episode.turns), length, episode.won, valid)


def say_won(outcomes: Iterable[Outcome]) -> bool:
    """Did a game of these say `won`? The others that were played to their end then did not win."""
    return any(outcome.won is not None for outcome in outcomes)


def episode_figures(outcomes: Sequence[Outcome], says_won: bool = False) -> dict[str, float]:
    """`episode/*` (docs/formats.md): means over episodes, and the shares of those that ended for a reason.

    says_won: it is known that the games say `won`, although none of these may have.
    """
    if not outcomes:
        return {}
    count = len(outcomes)
    figures = {
        "episode/turns": sum(outcome.turns for outcome in outcomes) / count,
        "episode/length": sum(outcome.length for outcome in outcomes) / count,
    }
    known = [outcome for outcome in outcomes if outcome.ending.kind not in FAILED]
    won = [bool(outcome.won) for outcome in known] if says_won or say_won(outcomes) else []
    valid = [value for outcome in outcomes for value in outcome.valid]
    for name, values in (("won", won), ("valid", valid)):
        if values:
            figures[f"episode/{name}"] = sum(values) / len(values)
    for kind in ("cut", "broken", "late", "too_long"):
        figures[f"episode/{kind}"] = sum(outcome.ending.kind == kind for outcome in outcomes) / count
    return figures


def name_of(observation: Observation) -> str:
    """The same for what shows the same, in every process."""
    digest = hashlib.blake2b(repr((observation.text, observation.actions)).encode(), digest_size=8)
    for image in observation.images:
        content = image if isinstance(image, bytes) else str(image).encode()
        digest.update(hashlib.blake2b(content, digest_size=16).digest())
    return digest.hexdigest()


def first_turns(
    make: EnvironmentMaker, rows: Sequence[Example], run_seed: int
) -> Iterator[Example | RowError]:
    """What each row's game shows first, or why the game cannot be made; no model is asked."""
    with _each(make) as each:
        for start in range(0, len(rows), FIRST_TURNS):
            block = [rows[i] for i in range(start, min(start + FIRST_TURNS, len(rows)))]
            yield from each(lambda row: _first_turn(make, row, run_seed), block)


def _first_turn(make: EnvironmentMaker, row: Example, run_seed: int) -> Example | RowError:
    game = make(row)
    try:
        seen = game.reset(game_seed(run_seed, row.id, 0))
        # A reset that broke shows nothing, and the next step says why.
        error = game.step("").info.get("error") if seen == NOTHING else None
    finally:
        game.close()
    if error is not None:
        return RowError("game_broken", error)
    try:
        return turn_example(row, [], seen, 0, make.template)
    except ValueError as error:
        return RowError("game_broken", str(error))


def reasons(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """What to tell of the episodes that broke or were too long: {reason: the first of them in a sentence}."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        kind, reason = outcome.ending.kind, outcome.ending.reason
        if reason:  # lengths differ: prompts that are too long are told once
            found.setdefault(
                kind if kind == "too_long" else reason, f"the game of {outcome.row} ended: {reason}"
            )
    return found
