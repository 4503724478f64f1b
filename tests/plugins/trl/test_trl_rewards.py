"""Our rewards in TRL's own GRPOTrainer: two updates on text, in conversations and with pictures."""

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
from trl import GRPOTrainer
from trl_runs import config_of, split_keys, trainer_of

from gmpo_vl.models.compat import load_own_processor
from gmpo_vl.plugins.trl import objective, reward

KEYS = {"num_iterations": 1, "max_completion_length": 12, **split_keys(4, 2)}
QUESTIONS = [f"What is {i}+1? Answer in \\boxed{{}}." for i in range(8)]
GOLDS = [None if i == 2 else str(i + 1) for i in range(8)]
FUNCTIONS = {
    "gmpo_vl_geometry3k": {},
    "gmpo_vl_geometry3k_format": {"part": "format"},
    "gmpo_vl_math": {"spec": "math", "asynchronous": True},
}


def rewards(**more):
    return [reward(**keys, **more) for keys in FUNCTIONS.values()]


def logged(trainer) -> list[dict]:
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == 2
    return rows


def conversation(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("form", [str, conversation])
@pytest.mark.parametrize("trainer_class", [GRPOTrainer, objective(GRPOTrainer, "gmpo")])
def test_two_updates_on_text(tmp_path, tiny_text, form, trainer_class):
    rows = Dataset.from_list([{"prompt": form(q), "gold": g} for q, g in zip(QUESTIONS, GOLDS)])
    keys = {"reward_funcs": rewards(answers="gold"), "train_dataset": rows, "rollout_func": None}
    for row in logged(trainer_of(trainer_class, tiny_text, config_of(tmp_path, **KEYS), **keys)):
        for name in FUNCTIONS:
            assert row[f"rewards/{name}/mean"] is not None
        assert 0 <= row["gmpo_vl_geometry3k/accuracy"] <= 1


def test_a_right_answer_is_worth_one_and_a_row_without_an_answer_nothing(tmp_path, tiny_text):
    """The reward's own numbers arrive in TRL's advantages: of four completions, two are right."""

    def answered(prompts, trainer):
        texts = [rf"<think>so</think> \boxed{{{5 if i % 2 else 6}}}" for i in range(len(prompts))]
        tokenizer = trainer.processing_class
        said = tokenizer([text + tokenizer.eos_token for text in texts])["input_ids"]
        return {
            "prompt_ids": tokenizer(["?"] * len(prompts))["input_ids"],
            "completion_ids": said,
            "logprobs": None,
        }

    rows = Dataset.from_list(
        [{"prompt": conversation("?"), "solution": "5" if i % 2 else None} for i in range(8)]
    )
    keys = {"reward_funcs": [reward("geometry3k")], "train_dataset": rows, "rollout_func": answered}
    config = config_of(tmp_path, **{**KEYS, "max_completion_length": 64})
    row = logged(trainer_of(GRPOTrainer, tiny_text, config, **keys))[0]
    assert row["rewards/gmpo_vl_geometry3k/mean"] == pytest.approx((1.0 + 0.1) / 2)
    assert row["gmpo_vl_geometry3k/accuracy"] == 0.5


@pytest.mark.parametrize("trainer_class", [GRPOTrainer, objective(GRPOTrainer, "iqm")])
def test_two_updates_with_pictures(tmp_path, tiny_folder, trainer_class):
    pictures = [Image.new("RGB", (56, 56), (30 * i, 0, 0)) for i in range(8)]
    told = {"prompt": list(map(conversation, QUESTIONS)), "image": pictures, "solution": GOLDS}
    model = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    processor = load_own_processor(tiny_folder, AutoConfig.from_pretrained(tiny_folder), tokenizer)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = trainer_class(
        model=model,
        reward_funcs=[
            *rewards(),
            lambda completion_ids, **_: [float(len(set(ids))) for ids in completion_ids],
        ],
        args=config_of(tmp_path, **KEYS),
        train_dataset=Dataset.from_dict(told),
        processing_class=processor,
    )
    for row in logged(trainer):
        assert row["rewards/gmpo_vl_geometry3k/mean"] is not None
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert any("visual" in name for name in moved)  # the pictures reached the forward


def test_a_missing_column_ends_in_a_sentence(tmp_path, tiny_text):
    rows = Dataset.from_list([{"prompt": conversation(q), "answer": g} for q, g in zip(QUESTIONS, GOLDS)])
    keys = {"reward_funcs": reward(), "train_dataset": rows, "rollout_func": None}
    trainer = trainer_of(GRPOTrainer, tiny_text, config_of(tmp_path, **KEYS), **keys)
    with pytest.raises(ValueError, match=r"'solution', and the data have \['answer'\]"):
        trainer.train()
