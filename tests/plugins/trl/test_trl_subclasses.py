"""Subclasses of TRL's trainer and of its configuration: what is checked, handed on and refused."""

from dataclasses import dataclass

import pytest
import torch
import trl_runs
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.gmpo import GMPOConfig
from trl_runs import config_of, split_keys, trainer_of

from gmpo_vl.models.compat import load_own_processor
from gmpo_vl.plugins.trl import objective, reward


class Anything(GRPOTrainer):
    """Its signatures name nothing."""

    pictures: list[bool]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pictures = []

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        self.pictures.append(kwargs.get("pixel_values") is not None)
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)


class OtherName(GRPOTrainer):
    def __init__(self, model, settings, **kwargs):
        super().__init__(model, trl_runs.by_tokens, args=settings, **kwargs)


class MakesItsOwn(GRPOTrainer):
    """Its configuration is known only when it is made."""

    def __init__(self, *args, **kwargs):
        kwargs["args"].beta = 0.04
        super().__init__(*args, **kwargs)


@dataclass
class WithKL(GRPOConfig):
    beta: float = 0.04


@pytest.mark.parametrize("keys", [{"beta": 0.04}, {"num_iterations": 1, "steps_per_generation": 1}])
def test_the_configuration_of_any_subclass_is_checked_before_the_model_is_loaded(tmp_path, keys):
    config = config_of(tmp_path, **{**split_keys(4, 4), **keys})
    with pytest.raises(ValueError, match=r"beta=0\.04|steps_per_generation=4"):
        objective(Anything, "gmpo")("no/such-model", trl_runs.by_tokens, args=config)
    with pytest.raises(ValueError, match=r"beta=0\.04|steps_per_generation=4"):
        objective(Anything, "gmpo")("no/such-model", trl_runs.by_tokens, config)
    with pytest.raises(ValueError, match=r"beta=0\.04|steps_per_generation=4"):
        objective(OtherName, "gmpo")("no/such-model", settings=config)


def test_a_configuration_that_a_subclass_changes_is_checked(tmp_path, tiny_text):
    with pytest.raises(ValueError, match=r"beta=0\.04: no KL term"):
        trainer_of(objective(MakesItsOwn, "gmpo"), tiny_text, config_of(tmp_path, **split_keys(4, 4)))


@pytest.mark.parametrize(("config_class", "key"), [(WithKL, r"beta=0\.04"), (GMPOConfig, r"epsilon=0\.4")])
def test_other_defaults_of_a_configuration_are_refused(tmp_path, config_class, key):
    config = config_of(tmp_path, config_class, **split_keys(4, 4))
    with pytest.raises(ValueError, match=rf"{key}.*or write GRPOConfig's own 0\."):
        objective(GRPOTrainer, "gmpo")("no/such-model", trl_runs.by_tokens, args=config)


def test_pictures_reach_a_forward_that_names_no_parameter(tmp_path, tiny_folder):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    prompt = [{"role": "user", "content": "What is it?"}]
    rows = Dataset.from_dict({"prompt": [prompt] * 4, "image": [Image.new("RGB", (56, 56), "red")] * 4})
    trainer = objective(Anything, "gmpo")(
        model=AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32),
        reward_funcs=lambda completion_ids, **_: [float(len(set(ids))) for ids in completion_ids],
        args=config_of(tmp_path, max_steps=1, num_iterations=1, **split_keys(4, 2)),
        train_dataset=rows,
        processing_class=load_own_processor(tiny_folder, AutoConfig.from_pretrained(tiny_folder), tokenizer),
    )
    trainer.train()
    assert trainer.pictures == [True, True]  # of each micro-batch


def test_a_loss_that_would_hide_the_objective_is_refused():
    class Own(GRPOTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return 0 * sum(p.sum() for p in model.parameters())

    with pytest.raises(ValueError, match=r"Own has a loss of its own \(compute_loss\)"):
        objective(Own, "gmpo")
    with pytest.raises(ValueError, match=r"GRPOTrainer_gmpo has a loss of its own \(_compute_loss\)"):
        objective(objective(GRPOTrainer, "gmpo"), "iqm")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("gmpo",), r"not 'gmpo': objective\(GRPOTrainer, NAME\)"),
        (("gmpo", GRPOTrainer), r"named by a text, not <class.*objective\(GRPOTrainer, NAME\)"),
        ((object(), "gmpo"), "a subclass, not <object"),
        ((GRPOTrainer, None), "named by a text, not None"),
    ],
)
def test_other_arguments_than_a_class_and_a_name_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        objective(*given)


def test_two_rewards_of_one_kind_have_metrics_of_their_own(tmp_path, tiny_text):
    def boxed(prompts, trainer):
        tokenizer = trainer.processing_class
        said = tokenizer([r"\boxed{5}" + tokenizer.eos_token] * len(prompts))["input_ids"]
        asked = tokenizer(["?"] * len(prompts))["input_ids"]
        return {"prompt_ids": asked, "completion_ids": said, "logprobs": None}

    rows = Dataset.from_list([{"prompt": "?", "solution": "5"}] * 4)
    keys = {
        "reward_funcs": [reward("geometry3k"), reward("geometry3k", format_weight=0.75, name="mostly_form")],
        "train_dataset": rows,
        "rollout_func": boxed,
    }
    trainer = trainer_of(GRPOTrainer, tiny_text, config_of(tmp_path, max_steps=1, **split_keys(4, 1)), **keys)
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["rewards/gmpo_vl_geometry3k/mean"] == pytest.approx(0.9)
    assert row["rewards/mostly_form/mean"] == pytest.approx(0.25)
    assert row["mostly_form/accuracy"] == 1
