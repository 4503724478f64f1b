"""One row looked at from all sides: columns, pictures, first turn, tokens, gold. The report of it is
small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from gmpo_vl.data.images import (
    ImageError,
    PictureFacts,
    decode_image,
    fit_pixels,
    fit_size,
    image_size,
    picture_facts,
    picture_key,
)
from gmpo_vl.data.rows import RowError, example_from_row, row_id
from gmpo_vl.data.sources import Table, locate
from gmpo_vl.data.templates import IMAGE_TAG, render_problem
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.models.families import Family
from gmpo_vl.models.processing import Processor, picture_obstacle, prompt_length, prompt_text
from gmpo_vl.models.prompts import PromptSettings
from gmpo_vl.preflight.findings import Finding, RowPlace, row_finding
from gmpo_vl.preflight.reward_check import GoldCheck
from gmpo_vl.rewards.inputs import asks_pictures
from gmpo_vl.rollout.episodes import first_turns
from gmpo_vl.types import Example

EXTREME_ASPECT = 20
SHRUNK = 9  # times fewer pixels than the file has
_PLAIN_MODES = ("RGB", "L", "1", "RGBA", "LA", "PA", "La")


@dataclass(frozen=True)
class RowReport:
    """What one row is like. number: counted through all tables. Tokens are 0 where no prompt can be made.

    problem_hash: of problem, pictures and game; picture_hashes: of decoded pixels; all 64 bits. answer_hash
    likewise. enlarged: pictures that data.min_pixels scales up; added_tokens: what that costs. sizes: (width,
    height) of the prompt's pictures. kinds: type of each further column that is a small scalar.
    """

    number: int
    place: RowPlace
    findings: tuple[Finding, ...] = ()
    text_tokens: int = 0
    image_tokens: tuple[int, ...] = ()
    enlarged: int = 0
    added_tokens: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    problem_hash: int = 0
    answer_hash: int = 0
    picture_hashes: tuple[int, ...] = ()
    gold_type: str = ""
    counted: bool = False  # takes part in lengths and comparisons: a prompt can be made of it
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.text_tokens + sum(self.image_tokens)

    @property
    def usable(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)

    def found(self, reason: str, detail: str) -> RowReport:
        """The report with one more finding."""
        return replace(self, findings=(*self.findings, row_finding(reason, detail, self.place)))


@dataclass(frozen=True)
class RowChecker:
    """Checks the rows of one split's tables. Rows are numbered through all tables.

    plays: rows are games.   make: what makes them, to look at their first turns; None: nothing does.
    """

    split: str
    tables: tuple[Table, ...]
    settings: PromptSettings
    processor: Processor | None  # None: no model to count tokens with
    golds: GoldCheck
    most_asked: int | None = None  # rows that the reward is asked about; None: all
    plays: bool = False
    make: EnvironmentMaker | None = None
    run_seed: int = 1

    @property
    def num_rows(self) -> int:
        return sum(len(table.rows) for table in self.tables)

    def close(self) -> None:
        """End the processes of its games."""
        if self.make is not None:
            self.make.close()

    def read(self, number: int) -> tuple[RowPlace, Example | RowError]:
        """The row, or why it cannot be one. A row without a usable id goes by its place."""
        table, row = locate(self.tables, number)
        default = f"{table.label}:{row}"
        place = RowPlace(self.split, table.name, row, default)
        try:
            content = table.rows[row]
            place = replace(place, id=row_id(content, self.settings.columns, default))
            return place, example_from_row(content, self.settings.columns, default)
        except RowError as error:
            return place, error

    def example(self, number: int) -> Example:
        """Raises RowError."""
        _, found = self.read(number)
        if isinstance(found, RowError):
            raise found
        return found

    def check(self, numbers: Sequence[int]) -> Iterator[RowReport]:
        """Reports of the rows of these numbers, in their order."""
        read = [self.read(number) for number in numbers]
        shown = iter(self.shown([row for _, row in read if isinstance(row, Example)]))
        reports = [
            self._without_gold(RowReport(n, place), row, shown) for n, (place, row) in zip(numbers, read)
        ]
        asked = [(self._asked(report, e), e) for report, e in reports if e is not None]
        verdicts = iter(self.golds.look(asked))
        for report, example in reports:
            if example is not None:
                gold_type, problems = next(verdicts)
                report = replace(report, gold_type=gold_type)
                for problem in problems:
                    report = report.found(*problem)
            yield report

    def shown(self, rows: Sequence[Example]) -> list[Example | RowError]:
        """What a model is shown first: of a game its first turn, or why there is none; else the row."""
        return list(rows) if self.make is None else list(first_turns(self.make, rows, self.run_seed))

    def prompt(self, example: Example) -> str:
        """What a model is asked, in the chat format where there is a model."""
        template = self.settings.template
        if self.processor is None:
            return render_problem(example.problem, template)
        return prompt_text(example, self.processor, template)

    def _asked(self, report: RowReport, example: Example) -> str | None:
        """The prompt of a row that the reward is asked about; None for others. Asked rows lie evenly."""
        most, reward = self.most_asked, self.golds.reward
        if most is not None and report.number * most % self.num_rows >= most:
            return None
        if reward is not None and asks_pictures(reward.asks) and not report.usable:
            return None  # its pictures may be what is wrong
        try:
            return self.prompt(example)
        except ValueError:  # such a row is told as one whose prompt is unusable
            return render_problem(example.problem, self.settings.template)

    def _without_gold(
        self, report: RowReport, example: Example | RowError, shown: Iterator[Example | RowError]
    ) -> tuple[RowReport, Example | None]:
        if isinstance(example, RowError):
            return report.found(example.reason, str(example)), None
        turn = next(shown)
        report = replace(report, kinds={k: type(v).__name__ for k, v in example.meta.items()})
        report = self._with_pictures(report, example)
        if not report.usable:
            return report, example
        if isinstance(turn, RowError):
            return report.found(turn.reason, str(turn)), example
        return self._with_tokens(report, turn), example

    def _with_pictures(self, report: RowReport, example: Example) -> RowReport:
        s = self.settings
        hashes: list[int] = []
        for i, source in enumerate(example.images, start=1):
            try:
                for reason, detail in self._about(picture_facts(source)):
                    report = report.found(reason, f"image {i}: {detail}")
                picture = decode_image(source, s.max_image_pixels)
                hashes.append(picture_key(picture))
                fit_pixels(picture, s.min_pixels, s.max_pixels)
            except ImageError as error:
                report = report.found("image_unreadable", f"image {i}: {error}")
        text = " ".join(example.problem.replace(IMAGE_TAG, " ").split())
        # Rows that name no game differ by their ids: chance comes from them.
        game = example.game or (example.id if self.plays else "")
        return replace(
            report,
            picture_hashes=tuple(hashes),
            problem_hash=hash_of(repr((text, hashes, game) if game else (text, hashes))),
            answer_hash=hash_of(example.answer),
        )

    def _with_tokens(self, report: RowReport, example: Example) -> RowReport:
        s, processor = self.settings, self.processor
        if processor is None:
            return replace(report, counted=True)
        try:
            tokens = prompt_length(
                example, processor, s.template, s.min_pixels, s.max_pixels, s.max_image_pixels
            )
            sizes = tuple(image_size(source, s.max_image_pixels) for source in example.images)
        except (ImageError, ValueError) as error:
            if example.images and self._picture_obstacle is not None:
                return report.found("pictures_unseen", self._picture_obstacle)
            return report.found("prompt_unusable", str(error))
        image_tokens, unenlarged = (
            tuple(picture_tokens(size, processor.family, least, s.max_pixels) for size in sizes)
            for least in (s.min_pixels, None)
        )
        pictures = sum(image_tokens)
        if spelled := processor.control.found(example.problem):
            report = report.found("control_tokens", ", ".join(spelled))
        if tokens > s.max_prompt_length:
            what = (
                f"{tokens:,} tokens ({pictures:,} of pictures), max_prompt_length is {s.max_prompt_length:,}"
            )
            report = report.found("prompt_too_long", what)
        return replace(
            report,
            sizes=sizes,
            text_tokens=tokens - pictures,
            image_tokens=image_tokens,
            enlarged=sum(more > fewer for more, fewer in zip(image_tokens, unenlarged)),
            added_tokens=pictures - sum(unenlarged),
            counted=True,
        )

    @cached_property
    def _picture_obstacle(self) -> str | None:
        assert self.processor is not None
        return picture_obstacle(self.processor, self.settings.template)

    def _about(self, facts: PictureFacts) -> Iterator[tuple[str, str]]:
        """Warnings and notes that a picture's header is worth."""
        size = f"{facts.width} x {facts.height} pixels"
        image = self.processor.image if self.processor is not None else None
        patch = image.factor if image is not None else 1
        if facts.aspect > EXTREME_ASPECT:
            yield "picture_extreme_aspect", f"{size}, one side {facts.aspect:.0f} times the other"
        if min(facts.width, facts.height) < patch:
            yield "picture_small", f"{size}; a patch of the model is {patch} x {patch}"
        limit = self.settings.max_pixels or (image.max_pixels if image is not None else None)
        if limit is not None and facts.width * facts.height > SHRUNK * limit:
            yield "picture_shrunk", f"{size}, at most {limit:,} pixels are kept"
        yield from _conversions(facts)


def _conversions(facts: PictureFacts) -> Iterator[tuple[str, str]]:
    if facts.frames > 1:
        yield "picture_animated", f"{facts.frames} frames"
    if facts.mode == "CMYK":
        yield "picture_cmyk", f"{facts.format}, CMYK"
    elif facts.mode == "P":
        yield "picture_palette", f"{facts.format}, palette"
    elif facts.wide:
        yield "picture_16_bit", f"{facts.format}, mode {facts.mode}"
    elif facts.mode not in _PLAIN_MODES:
        yield "picture_mode", f"{facts.format}, mode {facts.mode}"
    if facts.transparent:
        yield "picture_alpha", f"{facts.format}, mode {facts.mode}"
    if facts.rotated:
        yield "picture_rotated", f"{facts.format}, EXIF orientation"


def picture_tokens(
    size: tuple[int, int], family: Family, min_pixels: int | None, max_pixels: int | None
) -> int:
    """Image tokens of a picture of (width, height) after both resizings: by area (EasyR1's), then the
    model's."""
    return family.picture_length(*fit_size(*size, min_pixels, max_pixels))


def hash_of(text: str) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
