"""The environment of a run: can it be loaded, and what do a few games show first?"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from gmpo_vl.config import Config
from gmpo_vl.data.rows import RowError
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.models.processing import Processor, prompt_length
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.picture_check import LIMIT_KEY
from gmpo_vl.rollout.episodes import first_turns
from gmpo_vl.setup import load_configured_environment
from gmpo_vl.types import Example

_NAME = "environment.name"
_NOT_KNOWN = "how many turns games take, and how long later prompts are, is not known before they are played"
Looking = Generator[Finding, None, list[Example]]  # findings on the way to the turns that were made


def check_games(config: Config, rows: Sequence[Example], processor: Processor | None) -> Looking:
    """Load the environment and make the first turns of some train rows. No model is asked."""
    try:
        make = load_configured_environment(config)
    except (ValueError, ImportError) as error:
        change = "name a built-in, or FILE.py:CLASS; docs/environments.md has an example"
        yield Finding("error", "games", str(error), _NAME, change)
        return []
    assert make is not None
    try:
        return (yield from _first_turns(config, make, rows, processor))
    finally:
        make.close()


def _first_turns(
    config: Config, make: EnvironmentMaker, rows: Sequence[Example], processor: Processor | None
) -> Looking:
    data, lengths = config.data, []
    turns: list[Example] = []
    for row, turn in zip(rows, first_turns(make, rows, config.worker.rollout.seed)):
        try:
            if isinstance(turn, RowError):
                raise turn
            if processor is not None:
                pixels = data.min_pixels, data.max_pixels, data.max_image_pixels
                lengths.append(prompt_length(turn, processor, None, *pixels))
            turns.append(turn)
        except ValueError as error:
            change = "mend the row or the environment, or leave such rows out: data.on_bad_row=skip"
            yield Finding("error", "games", f"row {row.id}: {error}", _NAME, change)
    if len(turns) < len(rows) or not rows:
        return turns
    counts = sorted({len(turn.images) for turn in turns})
    shown = f", of {min(lengths):,} to {max(lengths):,} tokens" if lengths else ""
    shown += f", with {' to '.join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))} pictures"
    said = f"{config.environment.name}: first turns of {len(rows)} train rows made{shown}"
    yield Finding("ok", "games", f"{said}\n{_NOT_KNOWN}")
    if lengths and max(lengths) > data.max_prompt_length:
        what = (
            f"a first turn has {max(lengths):,} tokens, data.max_prompt_length is {data.max_prompt_length:,}"
        )
        yield Finding("warning", "games", what, "data.max_prompt_length", "raise it")
    yield from _check_limit(config, counts[-1])
    return turns


def _check_limit(config: Config, first: int) -> Iterator[Finding]:
    """A turn's pictures, if later ones show as many as the `first`: its own and those of the history. How
    many they show is not known."""
    limit, of = config.worker.rollout.limit_images, config.environment
    history = min(of.history_length, of.max_turns - 1)
    most = first * (1 + history)
    if config.engine == "easyr1" and 0 < limit < most:
        shown = f"first turns show up to {first:,}"
        if history:
            shown += f", and later ones may show those of {history:,} earlier turns, too"
        what = f"{LIMIT_KEY} is {limit:,}, and {shown}: vLLM refuses a prompt with more"
        level = "error" if limit < first else "warning"
        yield Finding(level, "games", what, LIMIT_KEY, f"{LIMIT_KEY}={most}, or 0 for no limit")
