"""Figures of lines and labels, drawn with Pillow: what the problems of data.py show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

SIZE = 112  # pixels; four by four merged patches of Qwen2.5-VL
CLEARANCE = 2  # pixels between a label's box and any line, other label or the picture's edge


@dataclass(frozen=True)
class Stroke:
    """A line through `points`, or the circle / the box with these two opposite corners."""

    points: tuple[Point, ...]
    kind: Literal["line", "circle", "box"] = "line"


@dataclass(frozen=True)
class Label:
    text: str
    center: Point


@dataclass(frozen=True)
class Figure:
    strokes: tuple[Stroke, ...]
    labels: tuple[Label, ...] = ()


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=22)  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def _text_box(text: str) -> tuple[float, float, float, float]:
    """The ink of `text` drawn at the origin: (left, top, right, bottom) in pixels."""
    return _font().getbbox(text)


def label_box(label: Label) -> tuple[float, float, float, float]:
    """Where a label's ink lies: (left, top, right, bottom) in pixels."""
    left, top, right, bottom = _text_box(label.text)
    x, y = _label_origin(label)
    return (x + left, y + top, x + right, y + bottom)


def _label_origin(label: Label) -> tuple[int, int]:
    left, top, right, bottom = _text_box(label.text)
    x, y = label.center
    return round(x - (left + right) / 2), round(y - (top + bottom) / 2)


def _draw_strokes(draw: ImageDraw.ImageDraw, strokes: Sequence[Stroke], color: object) -> None:
    for stroke in strokes:
        if stroke.kind == "circle":
            draw.ellipse([*stroke.points], outline=color, width=2)  # type: ignore[arg-type]
        elif stroke.kind == "box":
            draw.rectangle([*stroke.points], outline=color, width=2)  # type: ignore[arg-type]
        else:
            draw.line([*stroke.points], fill=color, width=2, joint="curve")  # type: ignore[arg-type]


def paint(figure: Figure) -> Image.Image:
    """The picture: RGB, SIZE x SIZE, blue lines and black labels on white."""
    image = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(image)
    _draw_strokes(draw, figure.strokes, (40, 80, 170))
    for label in figure.labels:
        draw.text(_label_origin(label), label.text, fill=(0, 0, 0), font=_font())
    return image


def place(strokes: tuple[Stroke, ...], wanted: Sequence[tuple[str, Sequence[Point]]]) -> Figure | None:
    """A figure with every label of `wanted` on the first free of its centers; None if one has none."""
    mask = Image.new("1", (SIZE, SIZE))
    draw = ImageDraw.Draw(mask)
    _draw_strokes(draw, strokes, 1)
    labels: list[Label] = []
    for text, centers in wanted:
        for center in centers:
            label = Label(text, center)
            left, top, right, bottom = label_box(label)
            box = (left - CLEARANCE, top - CLEARANCE, right + CLEARANCE, bottom + CLEARANCE)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= SIZE and box[3] <= SIZE
            if inside and mask.crop(box).getbbox() is None:  # type: ignore[arg-type]
                draw.rectangle(box, fill=1)
                labels.append(label)
                break
        else:
            return None
    return Figure(strokes, tuple(labels))
