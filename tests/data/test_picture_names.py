"""A picture is the one that its row names: never another of the same name, never a guess between two."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from contextlib import suppress
from itertools import product

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gmpo_vl.data.convert import convert
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.pictures.folder import PictureFolder
from gmpo_vl.data.rows import Columns, DataError, RowError, example_from_row

FORMS = ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "zip in the folder", "tar in the folder"]


def packed(form: str, names, folder) -> PictureFolder:
    """The names as files, or as members of an archive; each holds its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = form.partition(" ")[0]
    if kind == "folder":
        for name in names:
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return PictureFolder(folder / "images")
    path = folder / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        path.write_bytes(tar_of({name: name.encode() for name in names}, kind))
    return PictureFolder(folder if "in the folder" in form else path)


def tar_of(members: dict[str, bytes], kind: str = "tar") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compressed(buffer.getvalue(), kind)


def compressed(raw: bytes, kind: str) -> bytes:
    compress = {"tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
    return compress.get(kind, bytes)(raw)


def found(pictures: PictureFolder, name: str) -> str:
    """Which of the packed names was found, or the reason of the refusal."""
    try:
        picture = pictures.find(name)
    except RowError as error:
        return error.reason
    return (open(picture, "rb").read() if isinstance(picture, str) else picture).decode()


NAMES = ["geo/1.png", "chart/1.png", "chart/deep/2.JPG", "top.png", "0001.jpg", "a/0007.png", "b/0007.jpeg"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, name) for name in NAMES),
        ("/home/x/images/geo/1.png", "geo/1.png"),
        ("./images/geo/1.png", "geo/1.png"),
        ("images/geo/1.png", "geo/1.png"),
        ("../images/geo/1.png", "geo/1.png"),
        ("C:\\set\\images\\geo\\1.png", "geo/1.png"),
        ("./geo/../chart/1.png", "chart/1.png"),
        ("/data/else/chart/deep/2.JPG", "chart/deep/2.JPG"),
        ("/home/x/images/top.png", "top.png"),
        ("images/chart/deep/2.jpg", "chart/deep/2.JPG"),
        ("geo/1", "geo/1.png"),
        ("2.JPG", "chart/deep/2.JPG"),
        ("2.jpg", "chart/deep/2.JPG"),
        ("0001", "0001.jpg"),
        ("https://example.org/some/top.png?size=2#x", "top.png"),
        ("https://example.org/chart/1.png", "chart/1.png"),
        ("https://example.org/other/1.png", "image_ambiguous"),
        ("1.png", "image_ambiguous"),
        ("0007", "image_ambiguous"),
        ("other/1.png", "image_missing"),
        ("/home/x/other/top.png", "image_missing"),
        ("deep/2.JPG", "image_missing"),
        ("geo/2.JPG", "image_missing"),
        ("gone.png", "image_missing"),
        ("nul\0.png", "image_missing"),
        ("x" * 5000, "image_missing"),
        ("/", "image_missing"),
        ("https://example.org/", "image_missing"),
    ],
)
def test_a_name_means_one_picture_wherever_they_lie(form, name, expected, tmp_path):
    assert found(packed(form, NAMES, tmp_path), name) == expected


@pytest.mark.parametrize("form", FORMS)
def test_train_is_not_test(form, tmp_path):
    assert found(packed(form, ["test/1.png"], tmp_path / "a"), "train/1.png") == "image_missing"
    with pytest.raises(
        RowError, match=r"near it: 'test/1.png'; other folders are other pictures .*image_folder"
    ):
        packed(form, ["test/1.png"], tmp_path / "b").find("train/1.png")
    deep = packed(form, ["geo/1.png"], tmp_path / "c")
    assert found(deep, "/set/geo/1.png") == "geo/1.png"
    assert found(deep, "/set/test2014/geo/1.png") == "image_missing"
    one = packed("folder", ["geo/1.png"], tmp_path / "train")
    assert found(one, "/test/images/geo/1.png") == "image_missing"
    assert found(one, "/x/train/images/geo/1.png") == "geo/1.png"


PATHS = ["/".join(path) for length in (1, 2, 3) for path in product("ab", repeat=length)]


@settings(max_examples=200)
@given(
    files=st.sets(
        st.sampled_from(["/".join(p) for n in (1, 2, 3) for p in product("ab", repeat=n)]), min_size=1
    ),
    name=st.sampled_from(["/".join(p) for n in (1, 2, 3, 4) for p in product("ab", repeat=n)]),
)
def test_what_is_found_has_the_folders_of_its_name(files, name, tmp_path_factory):
    """Of a name with folders, the file's path is an end of it; a bare name leaves no choice."""
    names = [f"{file}.png" for file in files]
    pictures = packed("zip", names, tmp_path_factory.mktemp("names"))
    result = found(pictures, f"{name}.png")
    called = [other for other in names if other.split("/")[-1] == f"{name.split('/')[-1]}.png"]
    if f"{name}.png" in names:
        assert result == f"{name}.png"
    elif "/" not in name:
        assert result == (called[0] if len(called) == 1 else "image_ambiguous" if called else "image_missing")
    elif not result.startswith("image_"):
        assert f"{name}.png".endswith(f"/{result}")
        assert "/" in result


@pytest.mark.parametrize(
    ("one", "two", "place"),
    [
        ("/home/a/x/1.png", "/b/x/1.png", "x/"),
        ("/home/a/x/1.png", "/b/x/2.png", "x/"),
        ("https://e.org/one/top.png", "https://e.org/two/top.png", "top.png"),
        ("https://e.org/top.png?id=1", "https://e.org/top.png?id=2", "top.png"),
    ],
)
def test_two_names_are_not_one_picture_whichever_comes_first(one, two, place, tmp_path):
    names = ["x/1.png", "x/2.png", "top.png"]
    said = set()
    for first, second in ((one, two), (two, one)):
        pictures = packed("folder", names, tmp_path)
        assert found(pictures, first) == found(pictures, first) in names
        with pytest.raises(DataError, match=f"would both be {place}. Keep pictures under") as error:
            pictures.find(second)
        said.add(str(error.value))
    assert len(said) == 1
    pictures = packed("folder", names, tmp_path)
    for name in ("/home/a/x/1.png", "../a/x/1.png", "x/1.png", "1.png", "https://e.org/val/top.png"):
        assert found(pictures, name) in names


def test_a_conversion_ends_where_two_names_would_be_one_picture(tmp_path):
    """Otherwise threads would decide whose the picture is."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/1.png").write_bytes(png_of(np.full((9, 9, 3), 7, np.uint8)))
    rows = [{"q": "x?", "a": "1", "i": f"/{folder}/x/1.png"} for folder in "ab"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "m.yaml").write_text("source: a.jsonl\nproblem: q\nanswer: a\nimages: i\n")
    with pytest.raises(DataError, match="'a/x' and 'b/x' of the rows would both be x/"):
        convert(tmp_path / "m.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


SUBSETS = ["chart/images/1.png", "chart/images/2.png"]


@pytest.mark.parametrize(
    ("names", "root", "name", "expected"),
    [
        (SUBSETS, "chart", "geo/images/1.png", "image_missing"),
        (SUBSETS, "chart/images", "geo/images/1.png", "image_missing"),
        (SUBSETS, ".", "geo/images/1.png", "image_missing"),
        (SUBSETS, "chart/images", "chart/images/1.png", "chart/images/1.png"),
        (SUBSETS, "chart", "Chart/images/1.png", "chart/images/1.png"),
        (SUBSETS, "chart", "/mnt/x/images/1.png", "chart/images/1.png"),
        (SUBSETS, "chart/images", "/mnt/x/images/1.png", "chart/images/1.png"),
        (SUBSETS, "chart/images", "../x/images/1.png", "chart/images/1.png"),
        # The folder that the name says is here, and the picture is not in it.
        ([*SUBSETS, "geo/images/7.png"], "chart", "/mnt/geo/images/1.png", "image_missing"),
        ([*SUBSETS, "geo/images/7.png"], "chart/images", "/mnt/geo/images/1.png", "image_missing"),
        (["images/1.png", "geo/images/7.png"], ".", "/mnt/geo/images/1.png", "image_missing"),
        (["images/1.png", "geo/7.png"], ".", "/mnt/geo/images/1.png", "images/1.png"),
        # Another folder of that name says that such folders are several.
        ([*SUBSETS, "images/1.png"], ".", "/mnt/geo/images/1.png", "image_ambiguous"),
        ([*SUBSETS, "images/1.png"], ".", "/mnt/chart/images/1.png", "chart/images/1.png"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_pictures_of_one_subset_are_not_those_of_another(form, names, root, name, expected, tmp_path):
    pictures = PictureFolder(packed(form, names, tmp_path).root / root)
    assert found(pictures, name) == expected


def test_subsets_in_archives_beside_each_other(tmp_path):
    for subset, number in (("chart", 1), ("geo", 2)):
        with zipfile.ZipFile(tmp_path / f"{subset}.zip", "w") as archive:
            archive.writestr(f"images/{number}.png", subset)
    pictures = PictureFolder(tmp_path)
    assert found(pictures, "/mnt/chart/images/1.png") == found(pictures, "chart/images/1.png") == "chart"
    assert found(pictures, "/mnt/geo/images/1.png") == "image_missing"


@pytest.mark.parametrize("top", ["", "images/"])
def test_an_archive_counts_as_much_as_the_folders_around_it(top, tmp_path):
    """What has the name exactly comes first; else there is one search over both."""
    pictures = packed("folder", ["thumbs/1.png", "thumbs/2.png"], tmp_path)
    with zipfile.ZipFile(pictures.root / "images.zip", "w") as archive:
        archive.writestr(f"{top}1.png", "large")
        archive.writestr(f"{top}2.png", "thumbs/2.png")
    assert found(pictures, "1.png") == ("image_ambiguous" if top else "large")
    assert found(pictures, "2.png") == "thumbs/2.png"  # the same bytes


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_name_of_very_many_folders_is_no_file(form, tmp_path):
    pictures = packed(form, ["1.png"], tmp_path)
    for name in ("a/" * 4000 + "1.png", "a/" * 65 + "1.png", "/" * 5000 + "1.png", "a/../" * 2000 + "1.png"):
        assert found(pictures, name) == "image_missing"


def test_several_archives_and_a_folder_inside_one(tmp_path):
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            archive.writestr("1.png", split)
            archive.writestr(f"only_{split}.png", split)
    pictures = PictureFolder(tmp_path)
    assert found(pictures, "train/1.png") == "train"
    assert found(pictures, "/home/x/test/1.png") == "test"
    assert found(pictures, "only_test.png") == "test"
    with pytest.raises(RowError, match=r"2 files can be '1.png': test.zip/1.png, train.zip/1.png"):
        pictures.find("1.png")
    (tmp_path / "1.png").write_bytes(b"folder")
    assert found(pictures, "1.png") == "folder"
    inside = packed("zip", ["set_v1/geo/1.png", "set_v1/geo/2.png", "other/3.png"], tmp_path / "more").root
    assert found(PictureFolder(inside / "set_v1"), "geo/1.png") == "set_v1/geo/1.png"
    assert found(PictureFolder(inside / "set_v1"), "3.png") == "image_missing"


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


def png_of(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


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


def test_a_missing_path_of_a_row_in_easyr1s_columns_lists_near_names(tmp_path):
    """EasyR1's rule is a path, and nothing else: no search, but what is there is said."""
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/img_001.png").write_bytes(b"x")
    row = {"problem": "<image>x?", "answer": "1"}
    for name, said in (
        ("pics/img_01.png", r"no file '.*pics/img_01.png'; near it: 'img_001.png'"),
        ("pics/img_001.PNG", r"near it: 'img_001.png'"),
        ("pictures/img_001.png", r"there is no folder '.*pictures'"),
        ("img_001.png", r"no file '.*img_001.png'"),
    ):
        with pytest.raises(RowError, match=said) as error:
            example_from_row({**row, "images": [name]}, Columns(image_dir=str(tmp_path)), "a:0")
        assert error.value.reason == "image_missing"
