"""A split's prompts: rows read and checked once, encoded when a step wants them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gmpo_vl.config import Config
from gmpo_vl.data.examples import ExampleSet, load_examples
from gmpo_vl.data.images import ImageError
from gmpo_vl.data.rows import Columns
from gmpo_vl.data.templates import load_template
from gmpo_vl.data.types import Prompt
from gmpo_vl.models.processing import Processor, encode_prompt, prompt_length


@dataclass
class PromptSet:
    """The usable rows of a split. `lengths` are tokens of each row's prompt, in the order of `examples`."""

    examples: ExampleSet
    lengths: list[int]
    processor: Processor
    template: str | None
    min_pixels: int | None
    max_pixels: int | None

    def __len__(self) -> int:
        return len(self.examples)

    def encode(self, indices: Sequence[int]) -> list[Prompt]:
        return [
            encode_prompt(self.examples[i], self.processor, self.template, self.min_pixels, self.max_pixels)
            for i in indices
        ]

    def encode_by_id(self, example_id: str) -> Prompt:
        """A prompt by its example's id; KeyError if the data no longer holds it."""
        for i in range(len(self.examples)):
            if self.examples[i].id == example_id:
                return self.encode([i])[0]
        raise KeyError(f"the data set no longer holds the example {example_id!r}")

    def fingerprint(self) -> str:
        """A hash of the kept rows' ids and answers: has the data changed since a checkpoint was written?"""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(repr((example.id, example.problem, example.answer)).encode("utf-8"))
        return digest.hexdigest()


def load_prompts(config: Config, files: str, processor: Processor) -> PromptSet:
    """Read a split and check every row: columns, text, tags, pictures decoded once, length in tokens.

    Rows whose prompt is longer than `data.max_prompt_length` are dropped and reported (`filter_overlong_prompts`), or
    fatal; a prompt is never cut. Other bad rows: `data.on_bad_row`. Raises DataError naming file, row and reason.
    """
    data = config.data
    columns = Columns(
        prompt_key=data.prompt_key,
        answer_key=data.answer_key,
        image_key=data.image_key,
        image_dir=data.image_dir,
    )
    template = load_template(data.format_prompt) if data.format_prompt else None
    on_bad_row = "skip" if data.on_bad_row == "skip" else "error"
    examples = load_examples(files, columns, on_bad_row, check_images=True)
    lengths: list[int] = []
    unusable: dict[int, tuple[str, str]] = {}
    too_long: dict[int, tuple[str, str]] = {}
    for i, example in enumerate(examples):
        try:
            length = prompt_length(example, processor, template, data.min_pixels, data.max_pixels)
        except (ImageError, ValueError) as error:
            unusable[i] = ("prompt_unusable", str(error))
            length = 0
        if length > data.max_prompt_length:
            detail = f"{length:,} tokens, data.max_prompt_length is {data.max_prompt_length:,}"
            too_long[i] = ("prompt_too_long", detail)
        lengths.append(length)
    kept = [length for i, length in enumerate(lengths) if i not in unusable and i not in too_long]
    if unusable:
        examples = examples.drop(unusable, on_bad_row)
        survivors = [i for i in range(len(lengths)) if i not in unusable]
        too_long = {survivors.index(i): why for i, why in too_long.items()}
    if too_long:
        examples = examples.drop(too_long, "skip" if data.filter_overlong_prompts else "error")
    return PromptSet(examples, kept, processor, template, data.min_pixels, data.max_pixels)
