"""The gallery shows the very prompt: its pixels, its ids read back, the verifier's reading."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from planted import encoded, picture, planted, write_planted

from gmpo_vl.data.answers import encode_answer
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import Columns
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.models.processing import encode_prompt
from gmpo_vl.models.prompts import PromptSettings
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.preflight.prompt_gallery import pieces_of, write_gallery
from gmpo_vl.preflight.row_scan import DataToCheck


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("tiny")))


def to_check(source, model) -> DataToCheck:
    return DataToCheck(
        {"train": str(source)},
        PromptSettings(Columns(), template="{{ content }} Box it."),
        model,
        None,
        "accuracy",
    )


def test_the_page_holds_the_models_own_pixels_and_prompt(model, tmp_path):
    answer = encode_answer("B", type="choice", choices=["a <b>cat</b>", "a dog"])
    rows = [
        {"images": [encoded(picture(i)), encoded(picture(i + 9).resize((200, 90)))][: i + 1],
         "problem": "<image>" * (i + 1) + f"Is <b>{i}</b> in {i}?", "answer": answer}
        for i in range(2)
    ]  # fmt: skip
    write_parquet(tmp_path / "a.parquet", rows)
    given = to_check(tmp_path / "a.parquet", model)
    assert write_gallery(given, tmp_path / "show.html", "train", 10, seed=0) == 2
    page = (tmp_path / "show.html").read_text()
    shown = [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in re.findall(r"base64,([^\"]+)", page)]
    processor = given.processor()
    prompts = [
        encode_prompt(e, processor, given.settings.template)
        for e in load_examples(str(tmp_path / "a.parquet"))
    ]
    seen = [image for prompt in prompts for image in prompt.images]
    assert len(shown) == len(seen) == 3
    assert all(np.array_equal(np.asarray(a), b.numpy()) for a, b in zip(shown, seen))
    for prompt in prompts:
        pieces = pieces_of(prompt, processor)
        assert "".join(p.text if p.kind != "picture" else "<|image_pad|>" for p in pieces) == prompt.text
        assert sum(p.count for p in pieces if p.kind == "picture") == int(
            (prompt.ids_P == processor.image_token_id).sum()
        )
        assert f"{len(prompt.ids_P)} tokens" in page
    assert "<b>0</b>" not in page  # what a data set writes is text
    assert "&lt;b&gt;0&lt;/b&gt;" in page
    assert "200 × 90 stored, 196 × 84 seen, 21 tokens" in page
    assert "A. a &lt;b&gt;cat&lt;/b&gt;\nB. a dog</dd>" in page
    assert "<dt>gold</dt><dd><b>B</b></dd>" in page


def test_rows_without_a_prompt_are_shown_with_their_fault(model, tmp_path):
    given = to_check(write_planted(planted(for_qwen=True), "parquet", tmp_path), model)
    assert write_gallery(given, tmp_path / "p.html", "train", 100, seed=0) == len(planted(for_qwen=True))
    page = (tmp_path / "p.html").read_text()
    assert page.count("No prompt can be made of this row.") == sum(
        1 for _, reason, _ in planted(for_qwen=True).values() if reason
    )
    assert "error: image tags" in page


def test_rows_are_drawn_by_seed_or_taken_by_id(model, tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"problem": f"x{i}?", "answer": "1", "id": f"q{i}"}) + "\n" for i in range(50))
    )
    given = to_check(tmp_path / "a.jsonl", model)

    def ids(*arguments, **more) -> list[str]:
        write_gallery(given, tmp_path / "p.html", "train", *arguments, **more)
        return re.findall(r"<b>(q\d+)</b>", (tmp_path / "p.html").read_text())

    assert ids(5, 0) == ids(5, 0) != ids(5, 1)
    assert ids(5, 0, ids=["q7", "q3"]) == ["q7", "q3"]
    with pytest.raises(ValueError, match="no row of train has the id q99"):
        ids(5, 0, ids=["q99"])
    with pytest.raises(ValueError, match="no validation source"):
        write_gallery(given, tmp_path / "p.html", "validation", 5, 0)
