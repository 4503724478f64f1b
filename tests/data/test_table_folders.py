"""Names of pictures begin at the row's own table, else at a folder that is guessed only where no other can be
meant. Pictures that no column names are asked for.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.start.write import write_start


def _seen(image: Any) -> int:
    """The shade of a stored picture."""
    seen = np.asarray(decode_image(image))
    return int(seen[9, 9, 0])


def _shade(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (30, 30), shade).save(path)


def test_names_begin_at_the_folder_of_the_rows_own_table(tmp_path, monkeypatch):
    """Splits, tables and rows with folders of their own, where all pictures have the same names."""
    monkeypatch.chdir(tmp_path)
    for shade, place in enumerate(["set/train", "set/test", "two/kitchen", "two/garden", "each/1", "each/2"]):
        _shade(Path(place, "img/0.png"), 10 * shade + 10)
        row = {"image": "img/0.png", "question": f"What is {place}?", "answer": str(10 * shade + 10)}
        Path(place, "data.jsonl").write_text(json.dumps(row))
    for source in ("set", "two", "each"):
        write_start(source, source)
        text = re.sub("(?m)^validation:.*$", "", Path(f"{source}.yaml").read_text())
        Path(f"{source}.yaml").write_text(text)
        assert "\nimage_folder:" not in text
        card = convert(f"{source}.yaml", "out")
        examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
        assert len(examples) == 2
        for example in examples:
            assert _seen(example.images[0]) == int(example.answer)
    _shade(Path("img/0.png"), 99)  # and the mapping has one, too
    with pytest.raises(DataError, match=r"set/train/img/0\.png or .*img/0\.png: an image_folder from / on"):
        convert("set.yaml", "out2")


@pytest.mark.parametrize(
    "places",
    [("train", "test"), ("images/train", "images/test"), ("images", "augmented"), ("1/a/b", "2/a/b")],
)
def test_a_folder_is_not_guessed_where_another_has_a_file_of_the_name(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for shade, place in enumerate(places):
        for i in range(4):
            _shade(Path("set", place, f"{i}.png"), 100 * shade + i)
    rows = [{"image": f"{i}.png", "question": f"What is {i}?", "answer": str(i)} for i in range(4)]
    for split in ("train", "test"):
        Path(f"set/{split}.json").write_text(json.dumps(rows))
    start = write_start("mine", "set")
    assert start.asks == ["image_folder"]
    with pytest.raises(DataError, match="image_folder: FOLDER stands for"):
        convert("mine.yaml", "out")
    Path("mine.yaml").write_text(Path("mine.yaml").read_text().replace("FOLDER", f"set/{places[0]}"))
    assert convert("mine.yaml", "out").dropped == {}


def test_pictures_that_no_column_names_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        _shade(Path(f"set/{i}/image.png"), i)
        row = {"question": f"What is {i}?", "answer": str(i)}
        Path(f"set/{i}/data.json").write_text(json.dumps(row))
    assert write_start("mine", "set").asks == ["images"]
    with pytest.raises(DataError, match="images: COLUMN stands for"):
        convert("mine.yaml", "out")
    text = Path("mine.yaml").read_text()
    Path("mine.yaml").write_text(re.sub("(?m)^images:.*$", "", text))
    assert "such as set/" in convert("mine.yaml", "out").notes[0]
    assert "no row has a picture" in capsys.readouterr().err
    Path("mine.yaml").write_text(re.sub("(?m)^images:.*$", "images: \"{{ 'image.png' }}\"", text))
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
    assert {str(_seen(e.images[0])) == e.answer for e in examples} == {True}


@pytest.mark.parametrize("called", ["{:012}.jpg", "COCO_train2014_{:012}.jpg", "{}.png", "v{}.png"])
def test_numbers_that_files_are_called_by_are_pictures(called, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(9, 29):
        _shade(Path("set/images", called.format(i)), 8 * i)
        rows.append({"image_id": i, "question": f"What is {i}?", "answer": str(8 * i)})
    Path("set/a.json").write_text(json.dumps(rows))
    assert write_start("mine", "set/a.json").asks == []
    card = convert("mine.yaml", "out")
    examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
    assert len(examples) == 20
    assert all(abs(_seen(e.images[0]) - int(e.answer)) < 3 for e in examples)


@pytest.mark.parametrize("kind", ["image", "image_url"])
def test_pictures_in_parts_of_messages(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(6):
        _shade(Path(f"set/img/{i}.png"), i)
        name = f"img/{i}.png"
        if kind == "image_url":
            name = f"data:image/png;base64,{base64.b64encode(Path('set', name).read_bytes()).decode()}"
        part = {"type": kind, kind: name if kind == "image" else {"url": name}}
        asked = {"role": "user", "content": [part, {"type": "text", "text": f"What is {i}?"}]}
        reply = {"role": "assistant", "content": [{"type": "text", "text": str(i)}]}
        rows.append(json.dumps({"messages": [asked, reply]}))
    Path("set/a.jsonl").write_text("\n".join(rows))
    assert write_start("mine", "set/a.jsonl").asks == []
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    examples = [e for split in card.splits for e in load_examples(f"out/{split}.parquet")]
    assert {str(_seen(e.images[0])) == e.answer for e in examples} == {True}
