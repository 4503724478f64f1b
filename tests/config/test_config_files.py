"""Reading and writing settings: what is written is what counts, and errors say what, where and what to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from refusal import refusal

from gmpo_vl.config import Config, load_config, save_config, unknown_keys
from gmpo_vl.config.load import changed_settings, save_as_written
from gmpo_vl.config.schema import all_keys


def test_torch_is_not_imported():
    code = "import sys, gmpo_vl.config; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_override_wins_over_file_and_file_over_base(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write("base.yaml", trainer={"total_epochs": 1, "max_steps": 10, "val_freq": -1})
    child = write("sub/child.yaml", base="../base.yaml", trainer={"max_steps": 20, "save_freq": 5})
    config = load_config(child, ["trainer.save_freq=7"])
    assert (config.trainer.total_epochs, config.trainer.max_steps, config.trainer.save_freq) == (1, 20, 7)
    assert {"trainer.total_epochs", "trainer.max_steps", "trainer.save_freq"} <= config.written
    assert "trainer.save_limit" not in config.written


def test_base_that_names_itself_is_an_error(write):
    write("a.yaml", base="b.yaml")
    assert "circle" in refusal(write("b.yaml", base="a.yaml"))


def test_written_holds_exactly_what_was_written(write):
    config = load_config(write(), ["worker.rollout.val_override_config.n=16", "trainer.logger=['console']"])
    assert config.written == {
        "data.train_files",
        "worker.actor.model.model_path",
        "worker.rollout.n",
        "worker.reward.reward_function",
        "worker.rollout.val_override_config",
        "trainer.logger",
    }
    assert config.worker.rollout.val_override_config == {"n": 16}


def test_overrides_read_as_yaml_reads_them(write):
    config = load_config(
        write(),
        [
            "worker.actor.optim.lr=1e-5",
            "worker.actor.optim.betas=[0.9,0.95]",
            'worker.rollout.val_override_config={"n":16,"temperature":1.0}',
            "data.max_pixels=null",
            "algorithm.online_filtering=True",
            "data.train_files=someone/some-set@train",
        ],
    )
    assert config.worker.actor.optim.lr == 1e-5
    assert config.worker.actor.optim.betas == [0.9, 0.95]
    assert config.worker.rollout.val_override_config == {"n": 16, "temperature": 1.0}
    assert config.data.max_pixels is None
    assert config.algorithm.online_filtering is True
    assert config.data.train_files == "someone/some-set@train"


def test_saved_config_reads_the_same(write, tmp_path):
    config = load_config(
        write(),
        ["worker.actor.optim.lr=3.3e-7", "trainer.experiment_name=first", "worker.actor.log_clip_low=0.2"],
    )
    saved = tmp_path / "saved.yaml"
    save_config(config, saved)
    again = load_config(saved)
    assert again == config  # `written` included
    assert again.trainer.save_checkpoint_path == "runs/first"
    save_config(again, tmp_path / "twice.yaml")
    assert (tmp_path / "twice.yaml").read_text() == saved.read_text()


def test_a_saved_config_can_start_another_run(write, tmp_path):
    saved = tmp_path / "saved.yaml"
    first = load_config(write(), ["trainer.experiment_name=first"])
    save_config(first, saved)
    second = load_config(saved, ["trainer.experiment_name=second"])
    assert second.trainer.save_checkpoint_path == "runs/second"
    child = tmp_path / "child.yaml"
    child.write_text("base: saved.yaml\n")
    assert load_config(child) == first


def test_a_former_default_in_a_saved_config_is_nobodys_choice(write, tmp_path):
    saved = tmp_path / "saved.yaml"
    first = load_config(write())
    save_config(first, saved)
    text = saved.read_text().replace("tau_positive: null", "tau_positive: 1.0")
    saved.write_text(text.replace("tau_negative: null", "tau_negative: 1.05"))
    assert load_config(saved) == first
    assert changed_settings(saved, first) == []
    saved.write_text(text.replace("tau_negative: null", "tau_negative: 1.1"))
    assert "gmpo does not use tau_negative" in refusal(saved)


def test_a_later_edit_of_a_saved_config_counts_as_written(write, tmp_path):
    saved = tmp_path / "saved.yaml"
    save_config(load_config(write()), saved)
    saved.write_text(saved.read_text().replace("strategy: adamw\n", "strategy: adamw_bf16\n", 1))
    assert "worker.actor.optim.strategy" in refusal(saved)
    assert "worker.rollout.ignore_eos" in refusal(write(), "worker.rollout.ignore_eos=true")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("worker.actor.loss_typ", "worker.actor.loss_type"),
        ("worker.actor.lr", "worker.actor.optim.lr"),
        ("worker.actor.use_kl_loss", "algorithm.use_kl_loss"),
        ("data.max_pixel", "data.max_pixels"),
        ("trainer.expriment_name", "trainer.experiment_name"),
        ("rollout.n", "worker.rollout.n"),
    ],
)
def test_unknown_key_names_the_nearest_and_the_place(write, key, nearest):
    message = refusal(write(), f"{key}=1")
    assert f"there is no key {key}; did you mean {nearest}" in message
    assert f"override '{key}=1'" in message


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("worker.actor.tau", "write worker.actor.tau_positive and worker.actor.tau_negative"),
        ("algorithm.use_kl_prcp", "write algorithm.papo.kl_prcp_coef"),
        ("algorithm.rollout_correction_cap", "write algorithm.rollout_correction.rollout_is: geometric"),
        ("worker.actor.policy_loss.loss_mode", "write worker.actor.loss_type"),
        ("worker.rollout.val_kwargs.n", "write worker.rollout.val_override_config"),
        ("data.max_completion_length", "write data.max_response_length"),
        ("worker.actor.num_iterations", "write worker.actor.ppo_epochs"),
        ("algorithm.advantage", "write algorithm.adv_estimator"),
        # a letter, by its section
        ("worker.actor.beta", "write algorithm.kl_coef"),
        ("worker.actor.optim.beta", "write worker.actor.optim.betas"),
        ("worker.actor.epsilon", "write worker.actor.clip_ratio_low"),
        ("worker.actor.optim.epsilon", "it is torch's, 1e-8, and no setting"),
        ("algorithm.papo.gamma", "write algorithm.papo.kl_prcp_coef"),
        ("worker.actor.p", "write worker.actor.mean_power"),
        ("worker.actor.delta", "write worker.actor.clip_ratio_dual, of easyr1/default"),
    ],
)
def test_another_trainer_s_name_is_told_as_ours(write, key, said):
    assert f"there is no key {key}; {said}" in refusal(write(), f"{key}=1")


@pytest.mark.parametrize("key", ["worker.rollout.beta", "algorithm.papo.tau", "trainer.p", "data.delta"])
def test_a_letter_of_another_section_has_no_hint(write, key):
    assert refusal(write(), f"{key}=1").endswith(f"there is no key {key}")


def test_the_table_of_other_names_names_keys_that_exist_and_hides_none():
    own = {part for key in all_keys() for part in key.split(".")}
    letters = [
        (f"{section}.{letter}", said)
        for section, table in unknown_keys._LETTERS.items()
        for letter, said in table.items()
    ]
    for name, said in [*unknown_keys._BY_NAME.items(), *letters]:
        assert name not in own
        assert not any(key.endswith(f".{name}") for key in all_keys())
        told = re.findall(r"\b(?:data|algorithm|worker|trainer)\.[a-z_.]*[a-z]", said)
        assert told
        assert all(any(known == key or known.startswith(key + ".") for known in all_keys()) for key in told)


def test_unknown_key_in_a_file_names_the_file(write):
    path = write(trainer={"max_step": 3})
    assert f"{path}: there is no key trainer.max_step; did you mean trainer.max_steps" in refusal(path)


def test_all_faults_are_told_at_once(write):
    message = refusal(write(), "worker.rollout.n=x", "trainer.nonsense=1", "trainer.save_best=3")
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("override", "must_be"),
    [
        ("worker.rollout.n=4.5", "a whole number"),
        ("worker.rollout.n=null", "a whole number"),
        ("worker.actor.optim.lr=fast", "a number"),
        ("trainer.save_best=2", "true or false"),
        ("trainer.save_best=maybe", "true or false"),
        ("data.max_pixels=big", "a whole number or null"),
        ("worker.actor.optim.betas=0.9", "a list of numbers"),
        ("trainer.logger=console", "a list of names"),
        ("data=5", "is a section"),
        ("worker.rollout.val_override_config=greedy", "a mapping"),
    ],
)
def test_wrong_type_says_what_it_must_be(write, override, must_be):
    message = refusal(write(), override)
    key = override.split("=")[0]
    assert key in message
    assert must_be.replace("true or false", "true") in message
    assert repr(override) in message
    assert "Value" not in message  # no library's own words


def test_unreadable_files_say_so(write, tmp_path):
    write("geometry3k.yaml")
    assert "did you mean" in refusal(tmp_path / "geometry3.yaml")
    (tmp_path / "broken.yaml").write_text("data: {train_files: a\n")
    assert "broken.yaml cannot be read as YAML" in refusal(tmp_path / "broken.yaml")
    (tmp_path / "twice.yaml").write_text("data:\n  seed: 1\n  seed: 2\n")
    assert "line 3: the key 'seed' was there before, in line 2" in refusal(tmp_path / "twice.yaml")
    (tmp_path / "list.yaml").write_text("- data\n")
    assert "holds a list" in refusal(tmp_path / "list.yaml")
    assert "KEY=VALUE" in refusal(write(), "worker.rollout.n")


def test_an_empty_section_is_no_section(write):
    assert load_config(write(algorithm=None)).algorithm == Config().algorithm


@pytest.mark.parametrize("written", ["null", "[]", '""'])
def test_no_validation_can_be_said_in_any_way(write, written):
    config = load_config(write(), [f"data.val_files={written}"])
    assert config.data.val_files == ""


def test_an_override_without_a_key_sets_nothing(write):
    assert "override '=3' sets nothing: write KEY=VALUE" in refusal(write(), "=3")


CONFIGS = Path(__file__).parents[2] / "configs"
COMMITTED = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "study")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_base_saved_as_written_is_the_same_base(path, tmp_path):
    saved = tmp_path / "base.yaml"
    save_as_written(path, saved)
    overrides = ["data.seed=5", "worker.rollout.val_override_config={seed: 3}"]
    assert load_config(saved, overrides) == load_config(path, overrides)


MAPPINGS = """
data: {train_files: train.parquet}
worker:
  reward: {reward_function: math, reward_function_kwargs: {format_weight: 0.25}}
  rollout: {n: 8, val_override_config: {n: 4}}
  actor:
    loss_type: own.py:loss
    loss_options: {low: 0.5}
    model: {model_path: tiny, override_config: {num_hidden_layers: 2}}
algorithm: {reward_weights: {accuracy: 1.0, format: 0.5}}
"""
MORE = """
base: lower.yaml
worker:
  reward: {reward_function_kwargs: {answer_in: tag}}
  rollout: {val_override_config: {temperature: 1.0}}
  actor: {loss_options: {high: 2.0}, model: {override_config: {hidden_size: 64}}}
algorithm: {reward_weights: {format: 0}}
"""


def test_a_mapping_s_entries_are_set_one_by_one_and_an_empty_one_takes_all_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def loss(): ...\n")
    (tmp_path / "lower.yaml").write_text(MAPPINGS)
    key = "worker.reward.reward_function_kwargs"

    def options(*overrides: str, path: str = "lower.yaml") -> dict:
        return load_config(path, overrides).worker.reward.reward_function_kwargs

    assert options(f"{key}={{answer_in: tag}}") == {"format_weight": 0.25, "answer_in": "tag"}
    assert options(f"{key}.answer_in=tag") == {"format_weight": 0.25, "answer_in": "tag"}
    assert options(f"{key}={{}}") == {}
    assert options(f"{key}={{}}", f"{key}.answer_in=tag") == {"answer_in": "tag"}
    (tmp_path / "upper.yaml").write_text("{base: lower.yaml, worker: {reward: {reward_function_kwargs: {}}}}")
    assert options(path="upper.yaml") == {}
    save_as_written("upper.yaml", "saved.yaml")
    assert options(path="saved.yaml") == {}
    save_config(load_config("upper.yaml"), "config.yaml")
    assert options(path="config.yaml") == {}


def test_entries_of_mappings_that_a_lower_base_sets_are_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def loss(): ...\n")
    (tmp_path / "lower.yaml").write_text(MAPPINGS)
    (tmp_path / "upper.yaml").write_text(MORE)
    save_as_written("upper.yaml", "saved.yaml")
    overrides = ["algorithm.reward_weights={accuracy: 2.0}"]
    for added in ([], overrides):
        assert load_config("saved.yaml", added) == load_config("upper.yaml", added)
    config = load_config("saved.yaml", overrides)
    assert config.algorithm.reward_weights == {"accuracy": 2.0, "format": 0}
    assert config.worker.reward.reward_function_kwargs == {"format_weight": 0.25, "answer_in": "tag"}
    assert config.worker.rollout.val_override_config == {"n": 4, "temperature": 1.0}
    assert config.worker.actor.loss_options == {"low": 0.5, "high": 2.0}
    assert config.worker.actor.model.override_config == {"num_hidden_layers": 2, "hidden_size": 64}
