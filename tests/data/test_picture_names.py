"""A picture is the one that its row names: never another of the same name, never a guess between two."""

import json
import zipfile
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_pictures import FORMS, NAMES, found, packed, png_of

from gmpo_vl.data.convert import convert
from gmpo_vl.data.pictures.folder import PictureFolder
from gmpo_vl.data.rows import Columns, DataError, RowError, example_from_row


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
