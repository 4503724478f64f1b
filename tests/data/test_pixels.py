"""Pixels in a table, as arrays or .npy bytes, are pictures; what only looks like it is refused and never
unpickled.
"""

import base64
import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gmpo_vl.data.convert import convert
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.pictures.of_row import entries_of
from gmpo_vl.data.rows import RowError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def png_of(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_pixels_become_the_picture_that_they_are(tmp_path):
    alpha = np.dstack([RGB, np.full((6, 8), 255, np.uint8)])
    grey = np.stack([GREY] * 3, axis=-1)
    for value, expected in (
        (RGB, RGB),
        (RGB.tolist(), RGB),
        (RGB.astype(np.int64), RGB),
        (RGB.astype(np.float32), RGB),
        (RGB / 255, RGB),
        ((RGB / 255).tolist(), RGB),
        (alpha, RGB),
        (GREY, grey),
        (GREY[..., None], grey),
        (GREY.tolist(), grey),
        (GREY > 100, np.where(grey > 100, 255, 0)),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGB).convert("CMYK"), None),
        (npy(RGB), RGB),
        ({"bytes": npy(np.asfortranarray(RGB)), "path": "x.npy"}, RGB),
        ({"bytes": png_of(RGB), "path": "gone.png"}, RGB),
    ):
        (content,) = entries_of(value)
        assert isinstance(content, bytes)
        if expected is not None:
            assert (np.asarray(decode_image(content)) == expected).all()
    for several in (
        [RGB, GREY],
        [RGB.tolist(), RGB.tolist()],
        np.stack([RGB, RGB]),
        (png_of(RGB), npy(GREY)),
    ):
        assert len(entries_of(several)) == 2
    assert entries_of('["a.png", "b.png"]') == entries_of("['a.png', 'b.png']") == ["a.png", "b.png"]
    assert entries_of("[1].png") == ["[1].png"]
    assert entries_of(None) == entries_of("") == entries_of([]) == []


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (RGB.transpose(2, 0, 1), "shape 3 x 6 x 8; a picture is height x width"),
        (np.zeros((0, 4)), "shape 0 x 4"),
        (RGB.astype(np.uint16) * 200, "pixels from 0 to 47000"),
        (RGB / 100, "pixels from 0 to 2.35"),
        (RGB - 1.0, "pixels from -1 to"),
        (np.full((4, 4), np.nan), "pixels from nan"),
        (np.array([[0, 1], [1, 0]]), "whole numbers 0 and 1"),
        ([[1, 2], [3]], "rows of pixels of different lengths"),
        (npy(RGB)[:-9], "no array of pixels"),
        (npy(np.array([[Trap()]], dtype=object), allow_pickle=True), "no array of pixels"),
    ],
)
def test_pixels_that_are_no_picture_are_refused(value, said, capsys):
    with pytest.raises(RowError, match=re.escape(said)):
        entries_of(value)
    assert "unpickled" not in capsys.readouterr().out


def test_pixels_and_names_of_a_table_are_converted(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(png_of(RGB))
    np.save(tmp_path / "images/b.npy", RGB)
    uri = "data:image/png;base64," + base64.b64encode(png_of(RGB)).decode()
    pq.write_table(pa.table({"i": [RGB.tolist()], "q": ["x?"], "a": ["1"]}), tmp_path / "pixels.parquet")
    stored = [{"bytes": None, "path": "/home/x/images/a.png"}, {"bytes": png_of(RGB), "path": "gone.png"}]
    pq.write_table(pa.table({"i": [stored], "q": ["x?"], "a": ["1"]}), tmp_path / "stored.parquet")
    rows = [{"i": i, "q": "x?", "a": "1"} for i in (uri, ["images/a.png", "b.npy"], json.dumps(["a.png"]))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "m.yaml").write_text(
        "source: [pixels.parquet, stored.parquet, rows.json]\nimage_folder: images\n"
        "images: i\nproblem: q\nanswer: a\n"
    )
    card = convert(tmp_path / "m.yaml", tmp_path / "out")
    assert (card.splits["train"].rows, card.splits["train"].pictures) == (5, 7)
    for row in pq.read_table(tmp_path / "out/train.parquet").to_pylist():
        assert all((np.asarray(decode_image(i["bytes"])) == RGB).all() for i in row["images"])


def test_a_python_file_may_give_pixels_and_pil_pictures(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom PIL import Image\nSPLITS = ('train',)\n"
        "def rows(source, split):\n"
        "    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)\n"
        "    for value in (pixels, Image.fromarray(pixels), [Image.fromarray(pixels).convert('HSV')]):\n"
        "        yield {'images': value, 'problem': '<image>x?', 'answer': '1'}\n"
    )
    card = convert(tmp_path / "mine.py", tmp_path / "out", source=str(tmp_path))
    assert (card.splits["train"].rows, card.dropped) == (3, {})
