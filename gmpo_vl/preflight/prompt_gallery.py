"""`gmpo-vl data show`: rows exactly as the model sees them, as one page."""

from __future__ import annotations

import base64
import contextlib
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.data.images import PILLOW_MAX_PIXELS, ImageError, image_size
from gmpo_vl.data.letters import line_of
from gmpo_vl.data.rows import RowError, row_id
from gmpo_vl.data.writing import make_output_folder
from gmpo_vl.models.families.own import OwnFamily
from gmpo_vl.models.families.seen import seen_by_model
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.preflight.findings import row_record
from gmpo_vl.preflight.row_check import RowChecker
from gmpo_vl.preflight.row_scan import DataToCheck
from gmpo_vl.report.page import render
from gmpo_vl.storage.files import write_text
from gmpo_vl.types import Prompt
from gmpo_vl.verify import parse_gold


@dataclass(frozen=True)
class Picture:
    """One picture of a prompt. uri: the very pixels the model gets, as PNG; with a processor of its own,
    those that the processor gets. stored, seen: (width, height)."""

    uri: str
    stored: tuple[int, int]
    seen: tuple[int, int]
    tokens: int


@dataclass(frozen=True)
class Handed:
    """What a model's own processor makes of a prompt's pictures. shapes: of what the model gets. pictures:
    PNG and (width, height) each; none where it gets patches."""

    processor: str
    shapes: str
    pictures: list[tuple[str, tuple[int, int]]]


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt: "text", one "special" token, or a "picture" of `count` image tokens."""

    kind: str
    text: str
    count: int = 1


@dataclass(frozen=True)
class Card:
    """A row of the gallery; without a prompt (`pieces` empty) the findings say why."""

    place: str
    id: str
    pictures: list[Picture]
    handed: Handed | None  # of a model whose own processor prepares pictures
    pieces: list[Piece]
    tokens: int
    limit: int
    gold: str  # its answers, of which any is right
    reading: list[tuple[str, str]]
    findings: list[dict[str, Any]]  # row_record of each


def write_gallery(
    data: DataToCheck, path: Path, split: str, count: int, seed: int, ids: Sequence[str] = ()
) -> int:
    """Write a page of `count` rows drawn with `seed`, or of those with the ids; returns how many there are.

    Raises ValueError for a split without a source and for ids that no row has.
    """
    if split not in data.sources:
        raise ValueError(f"there is no {split} source in the configuration; it has {', '.join(data.sources)}")
    checker = data.checkers()[split]
    total = checker.num_rows
    numbers = _with_ids(checker, ids) if ids else _drawn(total, count, seed)
    try:
        cards = [_card(checker, number) for number in numbers]
    finally:
        checker.close()
    html = render(
        "prompts.html.jinja",
        split=split,
        source=data.sources[split],
        model=data.model,
        total=total,
        cards=cards,
        own_processor=checker.processor is not None and isinstance(checker.processor.family, OwnFamily),
        seed=None if ids else seed,
    )
    make_output_folder(path.parent)
    write_text(path, html)
    return len(cards)


def _drawn(total: int, count: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(total), min(count, total)))


def _with_ids(checker: RowChecker, ids: Sequence[str]) -> list[int]:
    found: dict[str, int] = {}
    columns, number = checker.settings.columns, 0
    for table in checker.tables:
        for row, content in enumerate(table.rows.scan([columns.id_key] if columns.id_key else [])):
            name = f"{table.label}:{row}"
            with contextlib.suppress(RowError):  # a row without a usable id goes by its place
                name = name if isinstance(content, RowError) else row_id(content, columns, name)
            if name in ids:
                found.setdefault(name, number)
            number += 1
    missing = [name for name in ids if name not in found]
    if missing:
        raise ValueError(f"no row of {checker.split} has the id {', '.join(missing)}")
    return [found[name] for name in ids]


def _card(checker: RowChecker, number: int) -> Card:
    s, processor = checker.settings, checker.processor
    assert processor is not None
    (report,) = checker.check([number])
    place = f"{Path(report.place.file).name}, row {report.place.row}"
    findings = [row_record(finding) for finding in report.findings]
    try:
        example = checker.example(number)
        (shown,) = checker.shown([example])
        if isinstance(shown, RowError):
            raise shown
        prompt = encode_prompt(shown, processor, s.template, s.min_pixels, s.max_pixels, s.max_image_pixels)
    except (RowError, ImageError, ValueError):  # the findings say what it was
        return Card(place, report.place.id, [], None, [], 0, s.max_prompt_length, "", [], findings)
    reading = [("reads the gold as", report.gold_type), *_reading(example.answer)]
    return Card(
        place=place,
        id=example.id,
        pictures=[_picture(prompt, i, tokens) for i, tokens in enumerate(report.image_tokens)],
        handed=_handed(prompt, processor),
        pieces=pieces_of(prompt, processor),
        tokens=len(prompt.ids_P),
        limit=s.max_prompt_length,
        gold=" or ".join(parse_gold(example.answer).answers),
        reading=reading,
        findings=findings,
    )


def _reading(answer: str) -> list[tuple[str, str]]:
    """What the verifier takes from the answer column."""
    gold = parse_gold(answer)
    said: list[tuple[str, str]] = []
    if gold.tolerance is not None:
        said.append(("tolerance", f"{gold.tolerance:.1%}"))
    if gold.choices:
        # Of choices the verifier counts letters; CountDown's are numbers.
        lines = map(line_of, LETTERS, gold.choices) if gold.type == "choice" else gold.choices
        said.append(("choices", "\n".join(lines)))
    return said


def _picture(prompt: Prompt, i: int, tokens: int) -> Picture:
    picture = Image.fromarray(prompt.images[i].numpy())
    stored = image_size(prompt.example.images[i], PILLOW_MAX_PIXELS)
    return Picture(_uri(picture), stored, picture.size, tokens)


def _handed(prompt: Prompt, processor: Processor) -> Handed | None:
    family = processor.family
    seen = seen_by_model(family, prompt) if isinstance(family, OwnFamily) else None
    if seen is None:
        return None
    pictures = [(_uri(picture), picture.size) for picture in seen.pictures]
    return Handed(seen.processor, ", ".join(seen.shapes), pictures)


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def pieces_of(prompt: Prompt, processor: Processor) -> list[Piece]:
    """The prompt's own ids, read back: text, special tokens one by one, runs of image tokens as one piece."""
    special = set(processor.tokenizer.all_special_ids)
    pieces: list[Piece] = []
    for kind, ids in _runs(prompt.ids_P, special, processor.image_token_id):
        text = processor.tokenizer.decode(ids, skip_special_tokens=False)
        pieces.append(Piece(kind, text if kind != "picture" else "", len(ids)))
    return pieces


def _runs(ids_P: torch.Tensor, special: set[int], image_token_id: int | None) -> list[tuple[str, list[int]]]:
    runs: list[tuple[str, list[int]]] = []
    for token in ids_P.tolist():
        kind = "picture" if token == image_token_id else "special" if token in special else "text"
        if runs and runs[-1][0] == kind and kind != "special":
            runs[-1][1].append(token)
        else:
            runs.append((kind, [token]))
    return runs
