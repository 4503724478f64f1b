"""A model without an end of its responses is refused; one whose turns end otherwise is told."""

import json
import shutil

import pytest

from gmpo_vl.cli import main
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.rollout.hf import generate
from gmpo_vl.types import Example, Sampling

SAID = "no token ends a response"


def edited(folder, **values):
    """The value in every file that has the key; None: without the key."""
    for path in folder.glob("*config.json"):
        path.write_text(json.dumps(_with(json.loads(path.read_text()), values)))
    return folder


def _with(found, values):
    kept = {key: values.get(key, value) for key, value in found.items() if values.get(key, "") is not None}
    return {key: _with(value, values) if isinstance(value, dict) else value for key, value in kept.items()}


@pytest.fixture
def endless(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "endless")
    return edited(folder, tokenizer_class="PreTrainedTokenizerFast", eos_token=None, eos_token_id=None)


def test_a_model_without_an_end_is_an_error_before_any_answer(doctor, endless, capsys):
    code, findings = doctor(model=endless)
    (error,) = [f for f in findings if f["level"] == "error"]
    assert code != 0
    assert SAID in error["what"]
    assert "generation_config.json" in error["change"]
    capsys.readouterr()
    for more in ((), ("--dry-run",)):
        assert main(["train", str(endless.parent / "run.yaml"), *more]) == 2
        assert SAID in capsys.readouterr().err
    processor = load_processor(endless)
    prompt = encode_prompt(Example("a", "What is 1 + 2?", "3"), processor)
    with pytest.raises(ValueError, match=SAID):
        generate(load_model(endless), processor, [prompt], Sampling(n=1, max_tokens=2))


def test_turns_that_end_with_another_token_are_a_warning(doctor, model, tmp_path):
    processor = load_processor(model)
    turn = processor.token_after_answer()
    assert turn == "<|im_end|>"
    number = processor.tokenizer.convert_tokens_to_ids(turn)
    other = processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    folder = edited(shutil.copytree(model, tmp_path / "other"), eos_token_id=[other])
    _, findings = doctor(model=folder)
    (warning,) = [f for f in findings if f["level"] == "warning"]
    assert warning["what"] == (f"a response ends at <|endoftext|>, an answer in the chat template at {turn}")
    assert warning["change"].startswith(f"add {number} to eos_token_id")
