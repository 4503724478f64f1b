"""How `data convert` cuts a table into splits: by hash, with what belongs together on one side."""

import io
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from gmpo_vl.data.convert import convert
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.writing import write_parquet


def write_mapping(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def picture(number: int, kind: str = "PNG") -> bytes:
    """Another picture for each number; other bytes, of the same pixels, for each lossless kind."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, kind)
    return buffer.getvalue()


def test_the_split_is_by_hash_and_keeps_a_picture_on_one_side(tmp_path):
    def rows(order):
        return [
            {
                "images": [picture(i // 3, ("PNG", "BMP", "TIFF")[i % 3])],
                "problem": f"<image>Question {i}?",
                "answer": "1",
            }
            for i in order
        ]

    path = write_mapping(
        tmp_path / "m.yaml",
        "source: a.parquet\nimages: images\nproblem: problem\nanswer: answer\nvalidation: 0.25\n",
    )
    sides = []
    for order in (range(90), reversed(range(90))):
        write_parquet(tmp_path / "a.parquet", rows(order))
        convert(path, tmp_path / "out")
        held = pq.read_table(tmp_path / "out/validation.parquet").to_pylist()
        sides.append({row["problem"] for row in held})
        assert len(held) % 3 == 0
        assert 0 < len(held) < 45
    assert sides[0] == sides[1]


@settings(max_examples=8)
@given(rows=st.lists(st.lists(st.integers(0, 120), max_size=3), min_size=30, max_size=50))
def test_rows_that_any_picture_connects_are_on_one_side(rows, tmp_path_factory):
    """In every order of the rows, and whatever file a picture comes in."""
    folder = tmp_path_factory.mktemp("split")
    path = write_mapping(
        folder / "m.yaml",
        "source: a.parquet\nimages: images\nproblem: problem\nanswer: answer\nid: id\nvalidation: 0.4\n",
    )
    numbered = list(enumerate(rows))
    sides = []
    for kind, order in (("PNG", numbered), ("BMP", numbered[::-1])):
        write_parquet(
            folder / "a.parquet",
            [
                {
                    "images": [picture(number, kind if i % 2 else "PNG") for number in numbers],
                    "problem": f"{'<image>' * len(numbers)}What is {i}?",
                    "answer": "1",
                    "id": f"q{i}",
                }
                for i, numbers in order
            ],
            {"id": "string"},
        )
        try:
            card = convert(path, folder / "out")
        except DataError:  # one side is empty
            reject()
        assert (card.rows_in, card.dropped) == (len(rows), {})
        held = [pq.read_table(folder / f"out/{name}.parquet").to_pylist() for name in ("train", "validation")]
        ids = [[row["id"] for row in side] for side in held]
        assert [[f"q{i}" for i, _ in order if f"q{i}" in side] for side in ids] == ids
        here, there = ({number for row in side for number in rows[int(row[1:])]} for side in ids)
        assert not here & there
        sides.append(set(ids[1]))
    assert sides[0] == sides[1]
    assert "are on one side" in card.summary()


def test_an_id_that_comes_twice_is_found_on_whatever_side(tmp_path):
    lines = [json.dumps({"q": f"What is {i}?", "a": "1", "n": i % 20}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    path = write_mapping(
        tmp_path / "m.yaml", "source: a.jsonl\nproblem: q\nanswer: a\nid: n\nvalidation: 0.5\n"
    )
    card = convert(path, tmp_path / "out")
    assert card.dropped == {"duplicate_id": 20}
    assert sum(split.rows for split in card.splits.values()) == 20
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "data_card.json",
        "train.parquet",
        "validation.parquet",
    ]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.98])
def test_a_small_table_has_rows_on_both_sides(share, tmp_path):
    rows = [{"q": f"What is {n}?", "a": str(n)} for n in range(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = f"source: a.jsonl\nproblem: q\nanswer: a\nvalidation: {share}\n"
    card = convert(write_mapping(tmp_path / "m.yaml", lines), tmp_path / "out")
    assert [split.rows for split in card.splits.values()] == [1, 1]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "validation: 0.5\nsplit_by: same",
            r"All 7 good rows share the same .*same.*, so they stay together, in \w+\.parquet: remove `vali",
        ),
        ("keep: n > 50", r"of 8 rows 0 dropped, 8 left out by keep\nIs `keep: n > 50` what was meant\?$"),
    ],
)  # fmt: skip
def test_a_split_that_ends_without_a_row_is_refused_with_its_keys(keys, said, tmp_path):
    rows = [{"q": f"What is {n}?", "a": str(n) if n else "", "n": n, "same": "x"} for n in range(8)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = write_mapping(tmp_path / "m.yaml", f"source: a.jsonl\nproblem: q\nanswer: a\n{keys}\n")
    with pytest.raises(DataError, match=said):
        convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_named_split_has_rows_but_a_trial_need_not_reach_the_validation_share(tmp_path):
    rows = [json.dumps({"q": f"What is {n}?", "a": str(n)}) for n in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "none.jsonl").write_text("\n")
    body = "\nproblem: q\nanswer: a\n"
    path = write_mapping(tmp_path / "m.yaml", f"source: a.jsonl{body}validation: 0.3\n")
    card = convert(path, tmp_path / "out", limit=1)
    assert {name: split.rows for name, split in card.splits.items()} == {"train": 1, "validation": 0}
    assert "validation.parquet: 0 rows" in card.summary()
    path = write_mapping(tmp_path / "m.yaml", f"source: a.jsonl{body}validation: 0.99\n")
    with pytest.raises(DataError, match=r"no row is left for train\.parquet"):
        convert(path, tmp_path / "out", limit=1)
    path = write_mapping(tmp_path / "m.yaml", f"source: {{train: a.jsonl, test: none.jsonl}}{body}")
    for limit in (None, 5):
        with pytest.raises(DataError, match=r"no row is left for test\.parquet: of 0 rows"):
            convert(path, tmp_path / "other", limit=limit)
