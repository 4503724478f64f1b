"""One row looked at from all sides: columns, pictures, tokens, gold. What it gives back is small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from gmpo_vl.data.images import (
    ImageError,
    PictureFacts,
    decode_image,
    fit_pixels,
    fit_size,
    image_size,
    picture_facts,
    strips,
)
from gmpo_vl.data.rows import RowError, example_from_row, row_id
from gmpo_vl.data.sources import Table, locate
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.models.compat import smart_resize
from gmpo_vl.models.processing import Processor, prompt_length
from gmpo_vl.models.prompts import PromptSettings
from gmpo_vl.preflight.golds import GoldCheck
from gmpo_vl.preflight.row_findings import Finding, level_of
from gmpo_vl.types import Example, ImageSettings

EXTREME_ASPECT = 20
SHRUNK = 9  # times fewer pixels than the file has
_PLAIN_MODES = ("RGB", "L", "1", "RGBA", "LA", "PA", "La")


@dataclass(frozen=True)
class RowReport:
    """What one row is like. Tokens are 0 for a row that no prompt can be made of.

    problem_hash: of problem and pictures; picture_hashes: of decoded pixels; all 64 bits. answer_hash likewise.
    enlarged: pictures that data.min_pixels scales up; added_tokens: what that costs. sizes: (width, height) of the pictures.
    kinds: type of each further column that is a small scalar.
    """

    row: int
    id: str
    findings: tuple[Finding, ...]
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


@dataclass(frozen=True)
class RowChecker:
    """Checks the rows of one split's tables."""

    split: str
    tables: tuple[Table, ...]
    settings: PromptSettings
    processor: Processor | None  # None: no model to count tokens with
    golds: GoldCheck

    def check(self, numbers: Sequence[int]) -> Iterator[RowReport]:
        """Reports of the rows of these numbers, counted through all tables, in their order."""
        reports = [self._without_gold(number) for number in numbers]
        wanted = [(i, example) for i, (_, example) in enumerate(reports) if example is not None]
        verdicts = dict(zip((i for i, _ in wanted), self.golds.look([e.answer for _, e in wanted])))
        for i, (report, example) in enumerate(reports):
            if example is None:
                yield report
                continue
            gold_type, problem = verdicts[i]
            found = (
                report.findings if problem is None else (*report.findings, self._finding(report, *problem))
            )
            yield replace(report, findings=found, gold_type=gold_type)

    def _without_gold(self, number: int) -> tuple[RowReport, Example | None]:
        table, row = locate(self.tables, number)
        default = name = f"{table.label}:{row}"
        try:
            content = table.rows[row]
            name = row_id(content, self.settings.columns, default)
            example = example_from_row(content, self.settings.columns, default)
        except RowError as error:
            empty = RowReport(number, name, ())
            return replace(empty, findings=(self._finding(empty, error.reason, str(error)),)), None
        return self._usable(number, example), example

    def _usable(self, number: int, example: Example) -> RowReport:
        report = RowReport(
            number, example.id, (), kinds={k: type(v).__name__ for k, v in example.meta.items()}
        )
        problems: list[tuple[str, str]] = []
        hashes: list[int] = []
        sizes: list[tuple[int, int]] = []
        for i, source in enumerate(example.images, start=1):
            try:
                facts = picture_facts(source)
                problems += [(reason, f"image {i}: {text}") for reason, text in self._about(facts)]
                picture = decode_image(source, self.settings.max_image_pixels)
                hashes.append(_picture_hash(picture))
                fit_pixels(picture, self.settings.min_pixels, self.settings.max_pixels)
                sizes.append(image_size(source, self.settings.max_image_pixels))
            except ImageError as error:
                problems.append(("image_unreadable", f"image {i}: {error}"))
        findings = tuple(self._finding(report, reason, detail) for reason, detail in problems)
        text = " ".join(example.problem.replace(IMAGE_TAG, " ").split())
        report = replace(
            report,
            findings=findings,
            sizes=tuple(sizes),
            picture_hashes=tuple(hashes),
            problem_hash=_hash(repr((text, hashes)).encode()),
            answer_hash=_hash(example.answer.encode()),
        )
        return self._measured(report, example) if report.usable else report

    def _measured(self, report: RowReport, example: Example) -> RowReport:
        s = self.settings
        if self.processor is None:
            return replace(report, counted=True)
        try:
            tokens = prompt_length(
                example, self.processor, s.template, s.min_pixels, s.max_pixels, s.max_image_pixels
            )
        except (ImageError, ValueError) as error:
            finding = self._finding(report, "prompt_unusable", str(error))
            return replace(report, findings=(*report.findings, finding))
        image = self.processor.image
        image_tokens, unenlarged = (
            tuple(picture_tokens(size, image, least, s.max_pixels) for size in report.sizes)
            for least in (s.min_pixels, None)
        )
        findings = report.findings
        if spelled := self.processor.control.found(example.problem):
            findings = (*findings, self._finding(report, "control_tokens", ", ".join(spelled)))
        if tokens > s.max_prompt_length:
            detail = f"{tokens:,} tokens ({sum(image_tokens):,} of pictures), max_prompt_length is {s.max_prompt_length:,}"
            findings = (*findings, self._finding(report, "prompt_too_long", detail))
        text_tokens = tokens - sum(image_tokens)
        return replace(
            report,
            findings=findings,
            text_tokens=text_tokens,
            image_tokens=image_tokens,
            enlarged=sum(more > fewer for more, fewer in zip(image_tokens, unenlarged)),
            added_tokens=sum(image_tokens) - sum(unenlarged),
            counted=True,
        )

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

    def _finding(self, report: RowReport, reason: str, detail: str) -> Finding:
        table, row = locate(self.tables, report.row)
        return Finding(level_of(reason), reason, self.split, table.name, row, report.id, detail)


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
    size: tuple[int, int], settings: ImageSettings | None, min_pixels: int | None, max_pixels: int | None
) -> int:
    """Image tokens of a picture of (width, height) after both resizings: by area (EasyR1's), to whole patches (the model's)."""
    assert settings is not None
    width, height = fit_size(*size, min_pixels, max_pixels)
    height, width = smart_resize(height, width, settings.factor, settings.min_pixels, settings.max_pixels)
    return settings.num_tokens(height, width)


def _picture_hash(picture: Image.Image) -> int:
    """Of size and pixels. In strips: the bytes of a whole picture would be held twice."""
    digest = hashlib.blake2b(repr(picture.size).encode(), digest_size=8)
    for box in strips(*picture.size):
        digest.update(picture.crop(box).tobytes())
    return int.from_bytes(digest.digest(), "big")


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
