"""Whatever stands in a mapping file or a column's name: a sentence, or a row that is named."""

import re

import pytest

from gmpo_vl.data.map_row import map_row
from gmpo_vl.data.mapping import MappingFile, is_kept, load_mapping, value_of
from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.template_filters import as_text, marked_answer


def write_mapping(path, text: str):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x: " + "[" * 50_000, "nested more than 50 deep"),
        ("id: 2024-99-99", "cannot be read as YAML"),
        ("validation: " + "9" * 400, "a whole number of 1,329 bits"),
        ('images: "a\\0"', "NUL"),
        ("keep: '" + "(" * 5000 + "'", "is no condition: it is nested too deep"),
        ("keep: '1" + "+1" * 20_000 + "'", "is no condition: it is nested too deep"),
        ("keep: q(a=1, a=2)", "is no condition"),
        ("id: '{{ " + "[" * 5000 + " }}'", "is no jinja template: it is nested too deep"),
        (
            "id: '{% for x in q %}" + "{% if x %}" * 200 + "{% endif %}" * 200 + "{% endfor %}'",
            "is no jinja template",
        ),
        ("max_image_pixels: 0", "is not between 1 and 178,956,970"),
        ("max_image_pixels: true", "does not fit"),
        ("self: 1", "there is no key 'self'"),
    ],
    ids=lambda value: value[:25],
)
def test_whatever_a_mapping_file_says_the_answer_is_a_sentence(line, said, tmp_path):
    path = write_mapping(tmp_path / "m.yaml", f"source: a.csv\nproblem: q\nanswer: a\n{line}\n")
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        load_mapping(path)
    assert len(str(caught.value)) < 2000


def test_sources_are_named_by_text(tmp_path):
    with pytest.raises(DataError, match="does not fit"):
        load_mapping(write_mapping(tmp_path / "m.yaml", "source: {1: a.csv}\nproblem: q\nanswer: a\n"))


def test_columns_may_have_any_name():
    """Python's and jinja's own words among them."""
    row = {
        "self": "me",
        "args": 1,
        "loop": "l",
        "result": "r",
        "range": "far",
        "a b": 2,
        "dict": 3,
        "true": 4,
    }
    text = "{{ self }} {{ args }} {{ loop }} {{ result }} {{ range }} {{ dict }}"
    assert value_of(row, text, "id") == "me 1 l r far 3"
    assert is_kept(row, "self == 'me' and result == 'r'")
    assert not is_kept(row, "self != 'me'")
    with pytest.raises(RowError, match="no column 'self'"):
        value_of({"other": 1}, "{{ self }}", "id")


@pytest.mark.parametrize(
    "text",
    [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ cycler() }}",
        "{{ 1 / 0 }}",
        "{{ q.nothing.more }}",
        '{% include "x" %}',
        "{{ q.__class__.__mro__ }}",
        "{{ [].append(1) }}",
    ],
)
def test_a_template_that_fails_costs_the_row(text):
    with pytest.raises(RowError, match="cannot be filled from this row"):
        value_of({"q": "x"}, text, "id")
    with pytest.raises(RowError, match="cannot be answered"):
        is_kept({"q": "x"}, "q.nothing.more")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### Step 1\nWe add.\n#### Step 2\nSo the answer is 4.", "4"),
        ("#### Step 1\nWe add.\n#### 4\n\n", "4"),
        ("a #### b #### 4", "4"),
        ("We add.\n##### 4", None),
        ("x ####", None),
        ("no mark", None),
        (r"first \boxed{3} then \boxed{5", None),
        (r"first \boxed{3} then \boxed", None),
        (r"\boxed{3} or \fbox{5}", "5"),
        (r"\boxed {\text{a \} b}} #### 4", r"\text{a \} b}"),
        ("<answer>3</answer> <answer>5", None),
        (r"<answer>\boxed{5</answer>", None),
        (r"\boxed{3} <answer>$\fbox{5}$</answer>", "5"),
        ("\\boxed{" * 20_000, None),
        ("#### a" * 20_000 + "\nb", None),
    ],
)
def test_the_marked_answer_is_the_last_mark_or_none(text, answer):
    assert marked_answer(text) == answer


def test_a_part_of_a_message_that_is_no_text_and_no_picture_is_refused(tmp_path):
    parts = [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": None}, {"text": " why?"}, "!"]
    assert as_text([*parts, {"type": "input_image"}]) == "<image> why?!<image>"
    for part in ({"type": "video", "text": None}, {"type": "input_audio"}, {"image": "x.png"}):
        mapping = MappingFile(tmp_path, "x", "{{ q | as_text }}", "a")
        with pytest.raises(RowError, match="as_text takes texts and pictures"):
            map_row({"q": [{"type": "text", "text": "why?"}, part], "a": "4"}, mapping)
