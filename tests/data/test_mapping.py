"""A mapping file says how a row's columns become EasyR1's: texts, pictures, choices, marks."""

import base64

import pytest

from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import KEYS, MappingFile, load_mapping
from gmpo_vl.data.rows import Columns, DataError, RowError, example_from_row
from gmpo_vl.verify import parse_gold, verify


def mapping(tmp_path, **values) -> MappingFile:
    return MappingFile(**{"folder": tmp_path, "source": "x", "problem": "q", "answer": "a", **values})


def test_choices_become_letters_and_the_gold_knows_them(tmp_path):
    row = {"q": "Which?", "a": 1, "options": ["a cat", "a dog"], "b1": "x", "b2": None, "b3": "z"}
    mapped = map_row(row, mapping(tmp_path, choices="options", answer_is="index"))
    assert mapped["problem"] == "Which?\nA. a cat\nB. a dog"
    assert parse_gold(mapped["answer"]).choices == ("a cat", "a dog")
    assert verify(mapped["answer"], "\\boxed{B}").correct
    assert verify(mapped["answer"], "\\boxed{a dog}").correct
    assert not verify(mapped["answer"], "\\boxed{A}").correct
    for form, answer in (("letter", "(b)"), ("number", "2"), ("text", "a dog"), ("index", 1.0)):
        other = map_row({**row, "a": answer}, mapping(tmp_path, choices="options", answer_is=form))
        assert other["answer"] == mapped["answer"]
    for form, answer in (
        ("letter", "C"),
        ("number", "0"),
        ("text", "a cow"),
        ("index", "two"),
    ):
        with pytest.raises(RowError) as error:
            map_row({**row, "a": answer}, mapping(tmp_path, choices="options", answer_is=form))
        assert error.value.reason == "answer_choice"
    listed = map_row({**row, "a": "B"}, mapping(tmp_path, choices=["b1", "b3", "b2"]))
    assert listed["problem"].endswith("A. x\nB. z")
    for empty in (None, "", " "):
        with pytest.raises(RowError, match="the choice b2 is empty") as error:
            map_row({**row, "a": "B", "b2": empty}, mapping(tmp_path, choices=["b1", "b2", "b3"]))
        assert error.value.reason == "choices"
    written = map_row(
        {**row, "options": "['a cat', 'a dog']"}, mapping(tmp_path, choices="options", answer_is="index")
    )
    assert written["answer"] == mapped["answer"]
    silent = map_row(row, mapping(tmp_path, choices="options", answer_is="index", choices_written=True))
    assert silent["problem"] == "Which?"


def test_a_row_without_choices_keeps_its_free_answer(tmp_path):
    row = {"q": "How many?", "a": "6", "options": []}
    assert map_row(row, mapping(tmp_path, choices="options"))["answer"] == "6"


def test_pictures_come_as_paths_bytes_base64_and_names(tmp_path, png):
    (tmp_path / "pics/deep").mkdir(parents=True)
    (tmp_path / "pics/deep/x1.png").write_bytes(png)
    path = str(tmp_path / "pics/deep/x1.png")
    text = base64.b64encode(png).decode()
    for value, expected in (
        ("deep/x1.png", path),
        ("x1.png", path),
        ("x1", path),
        ("https://example.org/some/x1.png?size=2", path),
        (text, png),
        (f"data:image/png;base64,{text}", png),
        (png, png),
        ({"bytes": png, "path": "gone.png"}, png),
        ({"bytes": None, "path": "deep/x1.png"}, path),
    ):
        row = {"q": "x?", "a": "1", "i": value}
        assert map_row(row, mapping(tmp_path, images="i", image_folder="pics"))["images"] == [expected]
    templated = mapping(tmp_path, images="deep/{{ n }}.png", image_folder="pics")
    assert map_row({"q": "x?", "a": "1", "n": "x1"}, templated)["images"] == [path]
    for value in ("gone.png", "data:image/png;base64,@@@", "https://example.org/y.png"):
        with pytest.raises(RowError) as error:
            map_row({"q": "x?", "a": "1", "i": value}, mapping(tmp_path, images="i", image_folder="pics"))
        assert error.value.reason in ("image_missing", "image_unreadable")


def test_a_row_may_lack_a_picture_but_a_list_may_not_lose_one(tmp_path, png):
    two, many = mapping(tmp_path, images=["i", "j"]), mapping(tmp_path, images="i")
    for nothing in (None, ""):
        row = {"q": "x?", "a": "1", "i": png, "j": nothing}
        assert map_row(row, two)["images"] == [png]
        assert map_row({**row, "i": nothing}, two)["problem"] == "x?"
        with pytest.raises(RowError, match="image 2 of 3 in 'i' is empty") as error:
            map_row({**row, "i": [png, nothing, png]}, many)
        assert error.value.reason == "image_missing"
    assert map_row({"q": "x?", "a": "1", "i": []}, many)["images"] == []


@pytest.mark.parametrize(
    ("place", "problem", "pictures", "expected"),
    [
        ("marks", "See <image1> and <image2>.", 2, "See <image> and <image>."),
        ("marks", "See <image2>.", 2, "<image>See <image>."),
        ("marks", "See <image1>, <image1> and <image7>.", 1, "See <image>,  and ."),
        ("front", "See <image2> and <image1>.", 2, "<image><image>See  and ."),
        ("marks", "Nothing marked.", 1, "<image>Nothing marked."),
        ("marks", "See <image2> and <image1>.", 2, None),
    ],
)
def test_marks_become_tags_in_the_order_of_the_pictures(tmp_path, png, place, problem, pictures, expected):
    given = mapping(tmp_path, images=["i", "j"], image_marks="<image{n}>", image_place=place)
    row = {"q": problem, "a": "1", "i": png, "j": png if pictures == 2 else None}
    if expected is None:
        with pytest.raises(RowError, match="image_place: front"):
            map_row(row, given)
        return
    assert map_row(row, given)["problem"] == expected


def test_text_of_a_data_set_is_never_a_template(tmp_path):
    row = {"q": "{{ 7 * 7 }} {% for x in y %}", "a": "{{ a.__class__ }}"}
    mapped = map_row(row, mapping(tmp_path, problem="{{ q }}!"))
    assert mapped["problem"] == "{{ 7 * 7 }} {% for x in y %}!"
    assert mapped["answer"] == "{{ a.__class__ }}"
    with pytest.raises(RowError):
        map_row(row, mapping(tmp_path, problem="{{ q.__class__.__mro__ }}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a mapping file holds"),
        ("source: a\nproblem: q\n", "answer is missing"),
        ("source: a\nproblem: q\nanswer: a\nimage: i\n", "no key 'image'; did you mean images"),
        ("source: a\nproblem: q\nanswer: 3\n", "answer: 3 does not fit"),
        ("source: a\nproblem: '{{ q'\nanswer: a\n", "no jinja template"),
        ("source: a\nproblem: q\nanswer: a\nkeep: level >>\n", "no condition"),
        ("source: a\nproblem: q\nanswer: a\nvalidation: 2\n", "no share"),
        ("source: a\nproblem: q\nanswer: a\nanswer_type: number\n", "is none of choice"),
        ("source: a\nproblem: q\nanswer: a\nanswer_is: text\n", "there are no choices"),
        (
            "source: {train: a, validation: b}\nproblem: q\nanswer: a\nvalidation: 0.1\n",
            "take one of the two away",
        ),
        ("source: a\nproblem: q\nanswer: a\nimage_marks: <img>\n", "has no {n}"),
        ("source: [a\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_mapping_names_file_key_and_fix(tmp_path, text, said):
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said) as error:
        load_mapping(path)
    assert "m.yaml" in str(error.value)


def test_every_key_is_explained():
    assert all(len(text) > 10 for text in KEYS.values())


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("['ram', 'ram', 'beast']", ["ram", "beast"]),
        ('["ram", "beast"]', ["ram", "beast"]),
        (["ram", "ram"], ["ram"]),
        ("array(['ram', 'beast'], dtype=object)", ["ram", "beast"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[0, 2, 0", ["[0, 2, 0"]),
    ],
)
def test_a_list_as_text_is_a_list_where_it_holds_texts(answer, gold, tmp_path):
    for spec in ("a", "{{ a }}"):
        mapped = map_row({"q": "x?", "a": answer}, MappingFile(tmp_path, "", "q", spec))
        assert parse_gold(example_from_row(mapped, Columns(), "0").answer).alternatives == tuple(gold)
    with pytest.raises(RowError, match="makes one value of it"):
        map_row({"q": "x?", "a": [10, 2, 30, 40]}, MappingFile(tmp_path, "", "q", "a"))
    mapped = map_row(
        {"q": "x?", "a": [10, 2]}, MappingFile(tmp_path, "", "q", "{{ a | map('string') | list }}")
    )
    assert mapped["answer"] == ["10", "2"]
