"""What `data convert` says names the mapping file and its key, or the Python file; never a key of a run's
configuration.
"""

import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gmpo_vl.cli import main
from gmpo_vl.config.load import all_keys
from gmpo_vl.data.formats import ArrowRows
from gmpo_vl.data.mapping import KEYS

ROW = {"q": "x?", "a": "1"}
PICTURED = {**ROW, "pic": "big.png"}
COLUMNS = [  # lines of the mapping, a row, what is said
    ("problem: nope", ROW, "problem: no column 'nope'; the row has 'q', 'a'"),
    ("answer: nope", ROW, "answer: no column 'nope'"),
    ("id: nope", ROW, "id: no column 'nope'"),
    ("images: nope", ROW, "images: no column 'nope'"),
    ("images: [pic, nope]", PICTURED, "images: no column 'nope'"),
    ("choices: nope", ROW, "choices: no column 'nope'"),
    ("choices: [q, nope]", ROW, "choices: no column 'nope'"),
    ("carry: [nope]", ROW, "carry: no column 'nope'"),
    ("validation: 0.5\nsplit_by: nope", ROW, "split_by: no column 'nope'"),
    ("answer: '{{ nope }}'", ROW, "answer: '{{ nope }}' cannot be filled from this row"),
    ("keep: nope > 1", ROW, "keep: 'nope > 1' cannot be answered"),
]
CASES = [
    (
        "images: pic\nmax_image_pixels: 9",
        PICTURED,
        r"big\.png\): .*store it smaller, or raise max_image_pixels",
    ),
    ("images: pic", {**PICTURED, "pic": "gone.png"}, "image_folder says where they lie"),
    ("images: pic", {**PICTURED, "pic": "cut.png"}, r"image 1 \(.*cut\.png\): .* cannot be decoded"),
    ("images: pic", {**PICTURED, "q": "<image><image>"}, "the problem has no text"),
    ("images: pic", {**PICTURED, "q": "<image><image>x"}, "2 <image> tags in the problem for 1 images"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    encoded = io.BytesIO()
    Image.effect_noise((30, 30), 9).save(encoded, "PNG")
    Path("sub/big.png").write_bytes(encoded.getvalue())
    Path("sub/cut.png").write_bytes(encoded.getvalue()[:200])
    return Path("sub")


def said(capsys, *arguments: str) -> str:
    """What the command says on its way out. No word of it is a key of a run's configuration."""
    assert main(["data", "convert", *arguments, "out"]) == 2
    text = capsys.readouterr().err
    assert not [key for key in all_keys() if "." in key and re.search(rf"\b{re.escape(key)}\b", text)], text
    return text


def said_of(folder: Path, lines: str, rows: list[dict], capsys) -> str:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {line.partition(":")[0] for line in lines.splitlines()}
    assert keys <= set(KEYS)
    usual = [f"{key}: {value}" for key, value in (("problem", "q"), ("answer", "a")) if key not in keys]
    (folder / "m.yaml").write_text("\n".join(["source: a.jsonl", lines, *usual]))
    return said(capsys, "sub/m.yaml")


@pytest.mark.parametrize(("lines", "row", "expected"), CASES, ids=range(len(CASES)))
def test_a_row_says_the_key_of_the_mapping(folder, lines, row, expected, capsys):
    text = said_of(folder, lines, [row], capsys)
    assert text.startswith("gmpo-vl: sub/m.yaml: split train (sub/a.jsonl): no row is left for train.parquet")
    assert re.search(rf"sub/a\.jsonl, row 0 .*{expected}", text)


@pytest.mark.parametrize(("lines", "row", "expected"), COLUMNS, ids=range(len(COLUMNS)))
def test_a_column_that_no_row_has_is_told_once_before_the_rows(folder, lines, row, expected, capsys):
    text = said_of(folder, lines, [row] * 9, capsys)
    assert re.match(rf"gmpo-vl: sub/m\.yaml: {expected}.* So it is in every row \(9\)\n$", text)
    assert not Path("out").exists()


def test_a_misspelt_column_is_told_before_pictures_are_read(folder, monkeypatch, capsys):
    picture = (folder / "big.png").read_bytes()
    rows = [{**ROW, "pic": picture, "meta": None if i < 50 else {"gold": "1"}} for i in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    read, whole_row = [], ArrowRows.__getitem__
    monkeypatch.setattr(ArrowRows, "__getitem__", lambda rows, i: read.append(i) or whole_row(rows, i))
    usual = {"source": "a.parquet", "problem": "q", "answer": "a", "images": "pic"}
    for key, name in (("answer", "anser"), ("problem", "{{ qq }}"), ("images", "picc"), ("keep", "leve > 1")):
        (folder / "m.yaml").write_text(json.dumps({**usual, key: name}))
        assert re.search(r"the row has 'q', 'a', 'pic', 'meta'\. .* \(100\)", said(capsys, "sub/m.yaml"))
    assert set(read) == {0}
    (folder / "m.yaml").write_text(json.dumps({**usual, "answer": "{{ meta.gold }}"}))
    assert main(["data", "convert", "sub/m.yaml", "out"]) == 0  # the first rows have none


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gone.jsonl", "sub/gone.jsonl: no such file or folder"),
        ("gone/x/", "sub/gone/x/?: no such file or folder"),
        ("cwd.jsonl", "sub/cwd.jsonl: no such file or folder"),
        ("/gone.csv", "/gone.csv: no such file or folder$"),
        ("a.jsonl@test", "sub/a.jsonl: a single file has no split 'test'"),
        ("m.yaml", "sub/m.yaml: no known format"),
        ("{Train: a.jsonl}", "the split 'Train' becomes a file name"),
        ("{../x: a.jsonl}", "the split '../x' becomes a file name"),
        ("empty.jsonl", "sub/empty.jsonl: no usable row"),
        ("bad.json", "sub/bad.json: not a JSON array"),
    ],
)
def test_a_source_that_cannot_be_read_says_file_and_key(folder, source, expected, capsys):
    (folder / "a.jsonl").write_text(json.dumps(ROW))
    Path("cwd.jsonl").write_text(json.dumps(ROW))
    (folder / "empty.jsonl").touch()
    (folder / "bad.json").write_text('[{"q": 1')
    (folder / "m.yaml").write_text(f"source: {source}\nproblem: q\nanswer: a\n")
    assert re.match(rf"gmpo-vl: sub/m\.yaml: source: {expected}", said(capsys, "sub/m.yaml"))


def test_a_source_of_the_command_line_is_named_as_such(folder, capsys):
    (folder / "m.yaml").write_text("source: a.jsonl\nproblem: q\nanswer: a\n")
    text = said(capsys, "sub/m.yaml", "--source", "gone.jsonl")
    assert text.startswith("gmpo-vl: --source gone.jsonl: ")


@pytest.mark.parametrize(
    ("splits", "row", "expected"),
    [
        ("('train',)", {"q": 1}, r"rows\(\) gave no problem and no answer; it gave \['q'\]"),
        ("('train',)", {"problem": "<image>x", "answer": "1"}, "1 <image> tags in the problem for 0 images$"),
        ("('train',)", {"problem": "<image>x", "answer": "1", "images": ["no.png"]}, "no file '/.*no.png'$"),
        ("('Train',)", {}, "mine.py: SPLITS: the split 'Train'"),
        *(
            (splits, {}, "mine.py: SPLITS is .* it names the files")
            for splits in ("'train'", "5", "()", "(5,)", "None")
        ),
    ],
)
def test_a_python_file_is_named_with_what_it_gave(folder, splits, row, expected, capsys):
    (folder / "mine.py").write_text(f"SPLITS = {splits}\ndef rows(source, split):\n    yield {row}\n")
    text = said(capsys, "sub/mine.py", "--source", "sub")
    assert text.startswith("gmpo-vl: sub/mine.py: ")
    assert re.search(expected, text.strip())
