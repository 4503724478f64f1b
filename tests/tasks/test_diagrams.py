"""The built-in diagrams: solvable from the picture only, legible, and disjoint between splits."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations as pairs

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageChops, ImageFilter

from gmpo_vl.tasks.diagrams import data as diagrams
from gmpo_vl.tasks.diagrams.data import FAMILIES, SHARES, combinations, make_diagram, make_examples
from gmpo_vl.tasks.diagrams.figures import SIZE, paint

SAMPLE = [make_diagram(split, index) for split in ("train", "test") for index in range(20 * len(FAMILIES))]


def ink(image: Image.Image) -> Image.Image:
    """Black-and-white: 255 where something is drawn on white."""
    return ImageChops.invert(image.convert("L")).point(lambda value: 255 if value > 40 else 0)


def test_at_least_six_families_take_turns():
    assert len(FAMILIES) >= 6
    families = Counter(e.meta["family"] for e in make_examples("test", 10 * len(FAMILIES)))
    assert families == dict.fromkeys(FAMILIES, 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_share_no_combination_of_values_in_any_order(family):
    seen = {split: {tuple(sorted(v)) for v in combinations(family, split)} for split in SHARES}
    if family == "counting":  # the asked kind and the other one: (3, 5) and (5, 3) are different questions
        seen = {split: set(combinations(family, split)) for split in SHARES}
    for a, b in pairs(SHARES, 2):
        assert not seen[a] & seen[b]
    assert all(len(values) >= 4 for values in seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())), (
        "a split lists a combination twice"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_problems_stay_inside_their_split_and_cover_it(split):
    values = {family: set() for family in FAMILIES}
    for index in range(len(FAMILIES) * 45):
        d = make_diagram(split, index, seed=3)
        values[d.family].add(d.values)
    for family, used in values.items():
        allowed = set(combinations(family, split))
        assert used <= allowed
        assert len(used) == min(45, len(allowed)), (
            "combinations come in turn: none twice before each came once"
        )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (make_examples("test", 28, seed) for seed in (5, 5, 6))
    assert first == again
    assert not {e.images[0] for e in first} & {e.images[0] for e in other}
    assert first[:7] == make_examples("test", 7, 5), "a longer data set begins with the shorter one"


def test_512_test_problems_are_512_pictures_and_ids():
    examples = make_examples("test", 512)
    assert len({e.images[0] for e in examples}) == 512
    assert len({e.id for e in examples}) == 512


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match=r"no split 'tests': use one of warmup, train"):
        combinations("area", "tests")  # type: ignore[arg-type]


def test_numbers_are_in_the_picture_only():
    for d in SAMPLE:
        assert not re.search(r"\d", d.question)
        shown = {label.text for label in d.figure.labels} - {"x"}
        if d.family == "counting":
            assert not shown
            kind = {diagrams.CIRCLES: "circle", diagrams.SQUARES: "box"}[d.question]
            assert str(sum(s.kind == kind for s in d.figure.strokes)) == d.answer
        else:
            assert shown, "the picture shows numbers"
            assert shown - set(d.question.split()) == shown


def solve(d: diagrams.Diagram) -> str:
    """The answer worked out from the labels of the drawing, by geometry of our own."""
    shown = [int(label.text) for label in d.figure.labels if label.text != "x"]
    at = {label.text: label.center for label in d.figure.labels}
    if d.family == "triangle":
        return str(180 - sum(shown))
    if d.family == "area":
        return str(math.prod(shown))
    if d.family == "perimeter":
        return str(2 * sum(shown))
    if d.family == "right_triangle":
        # The angle's label lies inside the triangle, the leg's outside.
        angle = next(
            int(t)
            for t, (x, y) in at.items()
            if t in ("45", "60") and inside(d.figure.strokes[0].points[:3], x, y)
        )
        (leg,) = [v for v in shown if v != angle] or [angle]
        return f"{leg}\\sqrt{{{({45: 2, 60: 3})[angle]}}}"
    if d.family == "segment":
        texts = [label.text for label in d.figure.labels]
        first, second, whole = texts
        return str(sum(shown)) if whole == "x" else str(int(whole) - int(second if first == "x" else first))
    if d.family == "parallel_lines":
        # The two lines run along one axis; a label's angle is given by its side of the lines and of the
        # transversal.
        line, transversal = d.figure.strokes[0].points, d.figure.strokes[2].points
        across = 1 if line[0][1] == line[1][1] else 0  # the axis on which the parallel lines differ
        acute = []
        for text in (str(shown[0]), "x"):
            stroke = min(d.figure.strokes[:2], key=lambda s, p=at[text]: abs(s.points[0][across] - p[across]))
            up = at[text][across] - stroke.points[0][across]
            (x0, y0), (x1, y1) = transversal
            slope = (x1 - x0) / (y1 - y0) if across == 1 else (y1 - y0) / (x1 - x0)
            start = (x0, y0) if across == 1 else (y0, x0)
            beside = at[text][1 - across] - (start[0] + slope * (at[text][across] - start[1]))
            acute.append(up * beside * slope > 0)
        assert acute[0] == (shown[0] < 90), "the drawing shows an acute angle as acute"
        return str(shown[0] if acute[0] == acute[1] else 180 - shown[0])
    return d.answer


def inside(corners, x: float, y: float) -> bool:
    """Whether the point lies in the triangle: on the same side of all three edges."""
    a, b, c = corners
    sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) > 0 for p, q in ((a, b), (b, c), (c, a))]
    return len(set(sides)) == 1


def test_the_answer_follows_from_the_picture():
    for d in SAMPLE:
        assert solve(d) == d.answer, d


def test_the_worked_solution_is_true_and_ends_in_the_boxed_answer():
    for d in SAMPLE:
        working, boxed = d.solution.split(". ")
        assert boxed == f"\\boxed{{{d.answer}}}"
        if d.family == "right_triangle":
            assert working == f"x={d.answer}"
            continue
        for chain in working.split(", "):
            values = {sum_of_products(side) for side in chain.split("=")}
            assert len(values) == 1, d.solution


def sum_of_products(text: str) -> int:
    """`180-45-70`, `5*14`, `50+20`: integers with + - * only."""
    total = 0
    for sign, term in re.findall(r"([+-]?)([\d*]+)", text):
        total += (-1 if sign == "-" else 1) * math.prod(int(f) for f in term.split("*"))
    return total


def test_labels_touch_nothing_and_stay_inside():
    """Pixel by pixel: a label grown by one pixel meets no line, no other label and no edge."""
    border = Image.new("L", (SIZE, SIZE), 255)
    border.paste(0, (1, 1, SIZE - 1, SIZE - 1))
    for d in SAMPLE:
        lines = ImageChops.lighter(ink(paint(replace(d.figure, labels=()))), border)
        labels = [ink(paint(replace(d.figure, strokes=(), labels=(label,)))) for label in d.figure.labels]
        for label in labels:
            assert label.getbbox() is not None
        for one, other in pairs([lines, *labels], 2):
            grown = one.filter(ImageFilter.MaxFilter(3))
            assert ImageChops.darker(grown, other).getbbox() is None, d


def test_a_label_on_a_line_would_be_seen():
    """The check above can fail: the same drawing with its label moved onto a corner touches."""
    d = next(d for d in SAMPLE if d.family == "triangle")
    moved = replace(d.figure.labels[0], center=d.figure.strokes[0].points[0])
    lines = ink(paint(replace(d.figure, labels=())))
    assert ImageChops.darker(lines, ink(paint(replace(d.figure, strokes=(), labels=(moved,))))).getbbox()


def test_strokes_stay_inside_and_counted_shapes_do_not_overlap():
    for d in SAMPLE:
        for stroke in d.figure.strokes:
            assert all(0 <= c <= SIZE for point in stroke.points for c in point)
        if d.family == "counting":
            for one, other in pairs([extent(s.points) for s in d.figure.strokes], 2):
                assert any(a[1] < b[0] or b[1] < a[0] for a, b in zip(one, other)), "apart on one axis"


def extent(points) -> list[tuple[float, float]]:
    """(smallest, largest) coordinate on each axis."""
    return [(min(axis), max(axis)) for axis in zip(*points)]


def test_export_writes_easyr1_columns_and_pictures_that_open(tmp_path):
    files = diagrams.export(tmp_path, {"train": 14, "test": 7}, seed=1)
    assert [f.name for f in files] == ["train.parquet", "test.parquet"]
    rows = pq.read_table(files[0]).to_pylist()
    assert len(rows) == 14
    assert list(rows[0]) == ["images", "problem", "answer", "id", "family"]
    for row, example in zip(rows, make_examples("train", 14, seed=1)):
        assert row["problem"].count("<image>") == len(row["images"]) == 1
        assert (row["id"], row["answer"], row["problem"]) == (example.id, example.answer, example.problem)
        picture = Image.open(io.BytesIO(row["images"][0]["bytes"]))
        assert picture.size == (SIZE, SIZE)
        assert picture.mode == "RGB"


def test_default_export_is_large_enough():
    assert diagrams.ROWS["test"] >= 384
    assert diagrams.ROWS["train"] >= 1500
