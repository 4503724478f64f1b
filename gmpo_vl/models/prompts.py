"""A split's prompts: rows are read and checked once, and encoded when a step needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from gmpo_vl.config.schema import DataConfig
from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.images import MAX_IMAGE_PIXELS, ImageError
from gmpo_vl.data.rows import Columns, OnBadRow, RowError
from gmpo_vl.data.templates import load_template
from gmpo_vl.models.processing import (
    Processor,
    encode_prompt,
    picture_length,
    picture_obstacle,
    prompt_length,
    prompt_text,
)
from gmpo_vl.types import Example, Prompt

Shown = Callable[[Sequence[Example]], Iterable[Example | RowError]]


@dataclass(frozen=True)
class PromptSettings:
    """How rows become prompts: columns, template, pixel limits, and what happens to rows that do not fit."""

    columns: Columns
    template: str | None = None  # jinja text
    min_pixels: int | None = None
    max_pixels: int | None = None
    max_prompt_length: int = 4096  # tokens
    drop_overlong: bool = True  # False: an over-long prompt is an error
    on_bad_row: OnBadRow = "error"
    max_image_pixels: int = MAX_IMAGE_PIXELS  # of a stored picture


def prompt_settings(data: DataConfig) -> PromptSettings:
    """As a configuration's data section says."""
    return PromptSettings(
        columns=Columns(data.prompt_key, data.answer_key, data.image_key, data.image_dir),
        template=load_template(data.format_prompt) if data.format_prompt else None,
        min_pixels=data.min_pixels,
        max_pixels=data.max_pixels,
        max_prompt_length=data.max_prompt_length,
        drop_overlong=data.filter_overlong_prompts,
        on_bad_row="skip" if data.on_bad_row == "skip" else "error",
        max_image_pixels=data.max_image_pixels,
    )


@dataclass
class PromptSet:
    """The usable rows of a split. lengths: tokens of each row's prompt, in the order of `examples`;
    picture_lengths: how many of them are image tokens. Of games both are those of the first turns."""

    examples: ExampleSet
    lengths: list[int]
    picture_lengths: list[int]
    processor: Processor
    settings: PromptSettings

    def __len__(self) -> int:
        return len(self.examples)

    def encode(self, indices: Sequence[int]) -> list[Prompt]:
        return [self.encoded(self.examples[i]) for i in indices]

    def encoded(self, example: Example) -> Prompt:
        """A row, or a turn of its game, as the rows of this split are encoded."""
        s = self.settings
        how = s.template, s.min_pixels, s.max_pixels, s.max_image_pixels
        return encode_prompt(example, self.processor, *how)

    def text(self, index: int) -> str:
        """A prompt as the model reads it, in the chat format; no picture is decoded."""
        return prompt_text(self.examples[index], self.processor, self.settings.template)

    def encode_by_id(self, example_id: str) -> Prompt:
        """A prompt by its example's id; KeyError if the data no longer holds it."""
        return self.encoded(self.example_by_id(example_id))

    def example_by_id(self, example_id: str) -> Example:
        """KeyError if the data no longer holds it."""
        for i, (known, _, _) in enumerate(self.examples.texts()):
            if known == example_id:
                return self.examples[i]
        raise KeyError(f"the data set no longer holds the example {example_id!r}")


def load_prompts(
    files: str, settings: PromptSettings, processor: Processor, shown: Shown | None = None
) -> PromptSet:
    """Read a split and check every row: columns, text, tags, pictures decoded once, length in tokens.

    Rows whose prompt is longer than `max_prompt_length` are dropped and reported, or fatal; a prompt is never
    cut. Raises DataError naming file, row and reason.
    shown: gives what each row's game shows first, or why there is none; None: rows are shown themselves.
    """
    s = settings
    pixels = s.min_pixels, s.max_pixels, s.max_image_pixels
    examples = load_examples(files, s.columns, s.on_bad_row, True, s.max_image_pixels)
    lengths: list[int] = []
    picture_lengths: list[int] = []
    unusable: dict[int, tuple[str, str]] = {}
    for i, example in enumerate(examples if shown is None else shown(examples)):
        if isinstance(example, RowError):
            unusable[i] = (example.reason, str(example))
            continue
        try:
            length = prompt_length(example, processor, s.template, *pixels)
        except (ImageError, ValueError) as error:
            unusable[i] = ("prompt_unusable", str(error))
            continue
        lengths.append(length)
        picture_lengths.append(picture_length(example, processor, *pixels))
    if unusable:
        _check_cause(examples, unusable, settings, processor)
        examples = examples.drop(unusable, s.on_bad_row)
    too_long = {
        i: ("prompt_too_long", f"{length:,} tokens, max_prompt_length is {s.max_prompt_length:,}")
        for i, length in enumerate(lengths)
        if length > s.max_prompt_length
    }
    if too_long:
        examples = examples.drop(too_long, "skip" if s.drop_overlong else "error")
    fits = [i for i in range(len(lengths)) if i not in too_long]
    return PromptSet(
        examples, [lengths[i] for i in fits], [picture_lengths[i] for i in fits], processor, settings
    )


def _check_cause(
    examples: ExampleSet, unusable: Collection[int], settings: PromptSettings, processor: Processor
) -> None:
    """ValueError where one file is the reason for all, not the rows. Text rows go on under `skip`."""
    if settings.on_bad_row == "skip" and len(unusable) < len(examples):
        return
    if any(examples[i].images for i in unusable):
        obstacle = picture_obstacle(processor, settings.template)
        if obstacle is not None:
            raise ValueError(obstacle)
