"""Pictures whose folder or name a template must say: `data new` gives it, and `convert` finds them by it."""

import json
import re
from pathlib import Path

import pytest
import yaml
from planted import picture

from gmpo_vl.data.convert import convert
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.mapping import FOLDER
from gmpo_vl.data.start.write import write_start

SPLITS = ("train", "val")
COUNT = 6  # rows of a split


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def start(rows: list[dict], files: list[str], **more) -> dict[str, str]:
    """{key: why} of what `data new` guesses for rows and files of pictures, each of its own colour."""
    for i, name in enumerate(files):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(name)
    asked = [{"question": f"What is in picture {i}?", "answer": "cat", **row} for i, row in enumerate(rows)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return {guess.key: guess.why for guess in write_start("mine", "a.jsonl", **more).guesses}


def offered(why: str) -> list[str]:
    return re.findall(r'images: "([^"]+)"', why)


def converted(template: str) -> dict[str, list[bytes]]:
    """The pictures of each split, by a mapping with the template in place of what `data new` left open."""
    mapping = yaml.safe_load(Path("mine.yaml").read_text())
    if mapping.get("image_folder") == FOLDER:
        del mapping["image_folder"]
    Path("mine.yaml").write_text(yaml.safe_dump({**mapping, "images": template}))
    card = convert("mine.yaml", "out")
    assert card.dropped == {}
    return {name: [e.images[0] for e in load_examples(f"out/{name}.parquet")] for name in card.splits}


def held(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path().glob(pattern))]


@pytest.mark.parametrize(
    ("name", "value", "file", "words"),
    [
        ("image_id", lambda i: i, "coco/{}2017/{:012d}.jpg", SPLITS),  # COCO
        ("image", lambda i: f"{i:03d}.png", "img/{}/{:03d}.png", SPLITS),
        ("image", lambda i: f"{i:03d}.png", "{}/{:03d}.png", ("Train", "Val")),
        ("file_name", lambda i: f"{i:03d}.png", "coco/{}2017/{:03d}.png", ("train", "validation")),
    ],
)
def test_a_name_in_a_folder_of_each_split_is_that_of_the_rows_own_split(name, value, file, words):
    rows = [{name: value(i), "data_split": word} for word in words for i in range(COUNT)]
    whys = start(rows, [file.format(split, i) for split in SPLITS for i in range(COUNT)])
    found = converted(*offered(whys["image_folder"]))
    for split, written in zip(SPLITS, ("train", "validation")):
        assert found[written] == held(str(Path(file).parent).format(split) + "/*")


def test_without_a_column_that_tells_the_folders_apart_none_is_offered():
    rows = [{"image": f"{i}.png", "kind": ("val", "other")[i % 2]} for i in range(COUNT)]
    whys = start(rows, [f"img/{split}/{i}.png" for split in SPLITS for i in range(COUNT)])
    assert offered(whys["image_folder"]) == []
    assert "name the one that is meant" in whys["image_folder"]


@pytest.mark.parametrize(("pages", "more"), [(1, {}), (3, {}), (1, {"image_folder": "set"})])
def test_a_page_behind_the_documents_id(pages, more):  # DUDE
    rows = [{"docId": f"{split}{i}", "data_split": split} for split in SPLITS for i in range(COUNT)]
    files = [f"set/{row['data_split']}/{row['docId']}_{p}.jpg" for row in rows for p in range(pages)]
    templates = offered(start(rows, files, **more)["images"])
    assert len(templates) == pages
    found = converted(templates[0])
    assert found == {"train": held("set/train/*_0.jpg"), "validation": held("set/val/*_0.jpg")}


def test_an_end_in_one_folder_and_a_number():
    start_whys = start([{"doc_id": i} for i in range(COUNT)], [f"pages/{i}-p1.png" for i in range(COUNT)])
    assert offered(start_whys["images"]) == ["pages/{{ doc_id }}-p1.png"]
    assert sum(map(len, converted("pages/{{ doc_id }}-p1.png").values())) == COUNT


def test_files_of_a_few_rows_alone_offer_nothing():
    whys = start([{"doc_id": f"d{i}"} for i in range(COUNT)], [f"pages/d{i}_0.png" for i in range(3)])
    assert offered(whys.get("images", "")) == []
