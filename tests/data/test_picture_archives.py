"""Pictures in archives: read, never unpacked; damage is named."""

import gzip
import io
import json
import tarfile
import zipfile
from contextlib import suppress

import numpy as np
import pyarrow.parquet as pq
import pytest
from packed_pictures import FORMS, NAMES, compressed, found, packed, png_of, tar_of

from gmpo_vl.data.convert import convert
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.pictures.folder import PictureFolder
from gmpo_vl.data.rows import DataError, RowError


def test_archives_are_read_and_never_unpacked(tmp_path, monkeypatch):
    bad = [
        "../up.png",
        "/abs.png",
        "a/../../b.png",
        "C:/d.png",
        "__MACOSX/._1.png",
        "._1.png",
        "./good/1.png",
    ]
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for form in ("zip", "tar", "tar.gz"):
        pictures = packed(form, bad, tmp_path / "in" / form)
        assert found(pictures, "good/1.png") == found(pictures, "1.png") == "./good/1.png"
        for name in ("up.png", "abs.png", "b.png", "d.png", "._1.png", "../up.png"):
            assert found(pictures, name) == "image_missing"
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == ["images.tar", "images.tar.gz", "images.zip"]


def test_links_in_a_tar_file_and_names_in_chinese_in_a_zip_file(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("one.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"one"))
        for name, kind in (("hard.png", tarfile.LNKTYPE), ("soft.png", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "one.png"
            archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(content.getvalue())
    pictures = PictureFolder(tmp_path / "a.tar")
    assert [found(pictures, name) for name in ("one.png", "hard.png", "soft.png")] == [
        "one",
        "one",
        "image_missing",
    ]


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_chinese_names_without_the_flag_that_says_utf8(encoding, tmp_path):
    encoded = "图片".encode(encoding)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in (f"{'A' * len(encoded)}.png", "三角.png", "1.png"):
            archive.writestr(name, "x")
    (tmp_path / "a.zip").write_bytes(
        content.getvalue().replace(b"A" * len(encoded) + b".png", encoded + b".png")
    )
    pictures = PictureFolder(tmp_path / "a.zip")
    assert [pictures.find(name) for name in ("图片.png", "三角.png", "1")] == [b"x"] * 3


def test_damaged_archives_are_named(tmp_path):
    whole = {
        "a.zip": packed("zip", NAMES, tmp_path / "z").root,
        "a.tar.gz": packed("tar.gz", NAMES, tmp_path / "t").root,
    }
    for name, path in whole.items():
        (tmp_path / name).write_bytes(path.read_bytes()[:-40])
        with pytest.raises(DataError, match=rf"{name} cannot be read as an archive of pictures"):
            PictureFolder(tmp_path / name).find("top.png")
    (tmp_path / "b.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 50)
    with pytest.raises(DataError, match=r"unzstd '.*b.tar.zst'"):
        PictureFolder(tmp_path / "b.tar.zst").find("top.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt is a file, neither a folder nor an archive \(.zip, "):
        PictureFolder(tmp_path / "notes.txt").find("top.png")
    with pytest.raises(RowError, match="nowhere, which does not exist; image_folder"):
        PictureFolder(tmp_path / "nowhere").find("top.png")


def test_no_damage_to_an_archive_ends_in_another_error(tmp_path):
    """Bytes are changed, cut off, left out and put in; in headers of tar files, too, with the right sum."""
    rng = np.random.default_rng(19)
    names = [*NAMES, "图片.png", f"long/{'x' * 150}.png"]
    whole = {form: packed(form, names, tmp_path / form).root.read_bytes() for form in FORMS[1:6]}
    for number in range(400):
        form = FORMS[1 + number % 5]
        is_plain = form != "zip" and number % 2 == 0
        raw = bytearray(whole["tar" if is_plain else form])
        place = int(rng.integers(len(raw)))
        kind = number // 10 % 4
        if kind == 0:
            for at in (place, *rng.integers(len(raw), size=number % 7)):
                raw[at] = rng.integers(256)
        elif kind == 1:
            del raw[place:]
        else:
            raw[place : place + 60 * (kind - 2)] = rng.bytes(60 * (3 - kind))
        if is_plain:
            raw = bytearray(compressed(with_right_sums(raw), form))
        path = tmp_path / f"damaged.{form}"
        path.write_bytes(raw)
        pictures = PictureFolder(path)
        for name in names:
            with suppress(RowError, DataError):
                pictures.find(name)


def with_right_sums(raw: bytearray) -> bytes:
    for start in range(0, len(raw) - 511, 512):
        if raw[start + 257 : start + 262] == b"ustar":
            raw[start + 148 : start + 156] = b" " * 8
            raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
    return bytes(raw)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        (tarfile.XHDTYPE, b"06200000000\0", "a header of 838,860,800 bytes"),
        (tarfile.GNUTYPE_LONGNAME, b"06200000000\0", "a header of 838,860,800 bytes"),
        (tarfile.XHDTYPE, b"\xff" * 10 + b"\xfe\0", "a header of -512 bytes"),
        (tarfile.REGTYPE, b"\xff" * 10 + b"\xfe\0", "a member of negative size"),  # back to itself, for ever
    ],
)
def test_sizes_in_a_tar_file_that_nothing_has(kind, size, said, tmp_path):
    raw = bytearray(tar_of({"1.png": b"x", "2.png": b"y"}))
    second = raw.index(b"2.png")
    raw[second + 156 : second + 157], raw[second + 124 : second + 136] = kind, size
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(with_right_sums(raw)))
    with pytest.raises(DataError, match=f"a.tar.gz cannot be read as an archive of pictures: {said}"):
        PictureFolder(tmp_path / "a.tar.gz").find("1.png")


def test_a_compressed_tar_file_that_is_too_large_says_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("gmpo_vl.data.pictures.archives._LARGEST_UNPACKED", 1000)
    with pytest.raises(
        DataError, match=r"more than 1,000 bytes when unpacked; .* gunzip --keep '.*images.tar.gz'"
    ):
        packed("tar.gz", NAMES, tmp_path).find("top.png")


def test_a_member_that_is_damaged_costs_its_row(tmp_path):
    path = packed("zip", NAMES, tmp_path).root
    raw = bytearray(path.read_bytes())
    place = raw.index(b"top.png") + len(b"top.png")
    raw[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    pictures = PictureFolder(path)
    assert found(pictures, "top.png") == "image_unreadable"
    assert found(pictures, "geo/1.png") == "geo/1.png"


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_a_table_with_an_archive_beside_it_is_converted(form, tmp_path):
    """In threads, a few rows at a time: every row has its own picture."""
    arrays = {f"geo/{i}.png": np.full((9, 9, 3), i, np.uint8) for i in range(120)}
    members = {name: png_of(array) for name, array in arrays.items()}
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(f"images/{name}", content)
    else:
        named = {f"images/{name}": content for name, content in members.items()}
        (tmp_path / f"images.{form}").write_bytes(tar_of(named, form))
    rows = [{"q": "x?", "a": "1", "i": f"/home/me/images/{name}", "n": name} for name in members]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(map(json.dumps, [*rows, {**rows[0], "i": "images/no/3.png"}]))
    )
    (tmp_path / "m.yaml").write_text("source: a.jsonl\nproblem: q\nanswer: a\nimages: i\nid: n\n")
    card = convert(tmp_path / "m.yaml", tmp_path / "out")
    assert (card.splits["train"].rows, card.dropped) == (120, {"image_missing": 1})
    for row in pq.read_table(tmp_path / "out/train.parquet").to_pylist():
        assert (np.asarray(decode_image(row["images"][0]["bytes"])) == arrays[row["id"]]).all()
