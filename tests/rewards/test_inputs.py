"""A reward's file sees of the row what it asks for, and nothing else."""

import io
from pathlib import Path

import pytest
from PIL import Image

from gmpo_vl.data import images
from gmpo_vl.rewards.inputs import carried, inputs_of
from gmpo_vl.rewards.loading import load_reward
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO = [("one", 3), ("two", 4)]


def encoded(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def example(tmp_path) -> Example:
    path = tmp_path / "blue.png"
    path.write_bytes(encoded("blue"))
    pictures = (encoded("red"), str(path))
    return Example("row 7", "<image><image>Which?", "red", pictures, {"level": 3, "tags": ["a"]})


def test_without_a_wish_a_reward_is_given_what_easyr1_gives(example):
    assert inputs_of((), example, TWO) == [
        {"response": "one", "response_length": 3, "ground_truth": "red"},
        {"response": "two", "response_length": 4, "ground_truth": "red"},
    ]


def test_pictures_are_rgb_as_stored_and_decoded_once(example, monkeypatch):
    decoded = []
    decode = images.decode_image
    monkeypatch.setattr(images, "decode_image", lambda *given: decoded.append(given) or decode(*given))
    one, two = inputs_of(("images", "meta", "id", "problem"), example, TWO)
    assert len(decoded) == 2
    assert [(image.mode, image.size) for image in two["images"]] == [("RGB", (40, 30))] * 2
    assert [image.getpixel((0, 0)) for image in two["images"]] == [(255, 0, 0), (0, 0, 255)]
    assert (two["id"], two["problem"]) == ("row 7", "<image><image>Which?")
    one["images"].clear()
    one["meta"]["tags"].append("changed")
    assert len(two["images"]) == 2
    assert two["meta"] == example.meta == {"level": 3, "tags": ["a"]}


def test_stored_pictures_are_not_decoded(example, monkeypatch):
    monkeypatch.delattr(images, "decode_image")
    one, two = inputs_of(("stored_images",), example, TWO)
    assert one["stored_images"] is two["stored_images"] is example.images
    assert carried(("stored_images",), example).images == (encoded("red"), encoded("blue"))


def test_only_what_is_asked_for_travels_and_pictures_travel_encoded(example):
    assert carried((), example).images == ()
    assert carried((), example).meta == {}
    sent = carried(("images", "meta"), example)
    assert sent.images == (encoded("red"), encoded("blue"))
    assert sent.meta == example.meta


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        ("('image',)", "names 'image'; did you mean images"),
        ("('images', 'gold')", r"names 'gold'.*can ask for id, problem, images, meta"),
        ("'images'", "it is a tuple of names"),
        ("3", "it is a tuple of names"),
        ("(1,)", "names 1"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(tmp_path, asks, message):
    path = tmp_path / "mine.py"
    path.write_text(f"REWARD_INPUTS = {asks}\ndef compute_score(reward_inputs):\n    return []\n")
    with pytest.raises(ValueError, match=message):
        load_reward(f"{path}:compute_score")


def test_a_reward_looks_at_the_picture():
    example = make_examples("train", 7, seed=0)[6]
    assert example.problem.endswith("How many squares are there?")
    reward = load_reward(f"{EXAMPLES / 'picture_reward.py'}:compute_score")
    assert reward.asks == ("images",)
    (picture,) = inputs_of(("images",), example, TWO)[0]["images"]
    left, top, *_ = Image.eval(picture.convert("L"), lambda grey: 255 * (grey < 100)).getbbox()
    drawn, empty = f"{left - 1}, {top - 1}, {left + 20}, {top + 20}", "0, 0, 3, 3"
    answers = [rf"<look>{box}</look> \boxed{{{example.answer}}}" for box in (drawn, empty, "0, 0, 112, 112")]
    found = reward.scored([(example, [(answer, 9) for answer in [*answers, f"<look>{drawn}</look>"]])])
    assert [score["overall"] for score, _ in found] == [1.0, 0.9, 0.9, 0.1]
