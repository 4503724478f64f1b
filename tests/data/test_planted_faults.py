"""A data set with every fault we know of: each is named or harmless, none stops a run that skips bad rows."""

import pytest
from planted import planted as planted_rows
from planted import write_planted as written

from gmpo_vl.data.examples import examples_from_rows, load_examples
from gmpo_vl.data.images import decode_image, fit_pixels
from gmpo_vl.data.rows import BadRowsError


@pytest.fixture(scope="module")
def planted():
    return planted_rows()


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_each_fault_is_named_and_the_rest_is_kept(planted, kind, tmp_path):
    expected = {name: reason for name, (_, reason, _) in planted.items() if reason is not None}
    if kind == "jsonl":
        expected["empty image"] = "image_unreadable"  # here it is an empty file
    source = written(planted, kind, tmp_path)
    examples = load_examples(source, on_bad_row="skip", check_images=True)
    assert {fault.id: fault.reason for fault in examples.faults} == expected
    assert [e.id for e in examples] == [name for name in planted if name not in expected]
    names = list(planted)
    assert all(names[fault.row] == fault.id and fault.file == source for fault in examples.faults)
    for example in examples:
        for image in example.images:
            assert fit_pixels(decode_image(image), 3136, 50_000).mode == "RGB"

    with pytest.raises(BadRowsError, match=f"{len(expected)} bad rows"):
        load_examples(source, on_bad_row="error", check_images=True)


def test_without_looking_at_pictures_theirs_are_found_later(planted, tmp_path):
    examples = load_examples(written(planted, "parquet", tmp_path), on_bad_row="skip")
    assert "image_unreadable" not in examples.faults.counts()
    index = next(i for i, e in enumerate(examples) if e.id == "truncated")
    dropped = examples.drop(
        {index: ("image_unreadable", "truncated"), 0: ("prompt_too_long", "1,532 tokens")}, "skip"
    )
    assert len(dropped) == len(examples) - 2
    assert "truncated" not in [e.id for e in dropped]
    assert dropped.faults.counts()["prompt_too_long"] == 1
    assert len(dropped.faults) == len(examples.faults) + 2
    with pytest.raises(BadRowsError, match="prompt_too_long: 1,532 tokens"):
        load_examples(
            written({"good": planted["good"], "text only": planted["text only"]}, "parquet", tmp_path)
        ).drop({0: ("prompt_too_long", "1,532 tokens")}, "error")


def test_a_second_row_of_the_same_id_is_refused_and_points_to_the_first(planted):
    good = planted["good"][0]
    examples = examples_from_rows(
        [
            {**good, "id": 1},
            {**good, "id": 2},
            {**good, "id": "1"},
            {**good, "answer": "", "id": 3},
            {**good, "id": 3},
        ],
        "mine",
        on_bad_row="skip",
    )
    assert [(f.row, f.reason) for f in examples.faults] == [(2, "duplicate_id"), (3, "empty_answer")]
    assert "the same id as mine:0" in examples.faults[0].detail
    assert [e.id for e in examples] == ["1", "2", "3"]


@pytest.mark.parametrize("on_bad_row", ["skip", "error"])
def test_a_set_of_bad_rows_only_is_an_error(planted, on_bad_row):
    bad = [row for row, reason, _ in planted.values() if reason is not None]
    with pytest.raises(BadRowsError, match=f"{len(bad)} bad rows"):
        examples_from_rows(bad, "mine", on_bad_row=on_bad_row, check_images=True)


def test_an_unknown_policy_is_refused(planted):
    with pytest.raises(ValueError, match="on_bad_row must be 'error' or 'skip', not 'ignore'"):
        examples_from_rows([planted["good"][0]], "mine", on_bad_row="ignore")  # type: ignore[arg-type]
