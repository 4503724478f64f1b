"""What a run refuses, and what it only mentions. Only written keys are refused."""

import pytest
from refusal import refusal

from gmpo_vl.config import Config, checks, doubts, load_config, notices, schema, support
from gmpo_vl.config.advantage_checks import advantage_problems
from gmpo_vl.config.schema import GROUP_ADVANTAGES, all_keys, value_of
from gmpo_vl.config.support import DTYPE_KEYS, SUPPORTED
from gmpo_vl.policy.divergence import KL_KINDS
from gmpo_vl.policy.objectives import OBJECTIVE_KEYS, OBJECTIVES

# The values of EasyR1's examples/config.yaml at commit b44b311.


@pytest.fixture
def path(write):
    return write()


def test_rules_are_about_keys_that_exist():
    named = {*SUPPORTED["local"], *SUPPORTED["easyr1"], *DTYPE_KEYS}
    assert named <= set(all_keys())
    patterns = [
        *support._PLACEMENT_ON_LOCAL,
        *(p for keys in support._NO_SUCH_PART_ON_LOCAL.values() for p in keys),
    ]
    assert all(support._matching(all_keys(), (pattern,)) for pattern in patterns)


def test_no_key_is_both_supported_in_part_and_placement():
    placement = support._matching(all_keys(), support._PLACEMENT_ON_LOCAL, but=DTYPE_KEYS)
    assert not set(placement) & {*SUPPORTED["local"]}


def test_kl_kinds_are_those_of_the_policy():
    assert schema.KL_KINDS == KL_KINDS


def test_defaults_are_refused_by_no_engine():
    for engine in ("local", "easyr1"):
        config = Config(engine=engine, written=frozenset(all_keys()))
        config.data.train_files, config.worker.actor.model.model_path = "rows", "model"
        config.worker.reward.reward_function, config.worker.rollout.n = "geometry3k", 2
        config.written -= {"algorithm.overlong_buffer", "algorithm.overlong_penalty"}
        config.written -= {"algorithm.step_advantage_weight"}
        config.written -= {"worker.actor.loss_avg_mode", "trainer.look_prompts"}
        config.written -= {"algorithm.rollout_correction.rollout_is_threshold"}
        of_games = ("environment.", "algorithm.episode_", "algorithm.turn_")
        parts = ("algorithm.papo.", *of_games)
        config.written -= {key for key in all_keys() if key.startswith(parts)}
        assert checks.check(config, {}) == []


def test_precisions_that_do_not_train_are_refused_or_said(path):
    assert "gradients in fp16 need a scale" in refusal(path, "worker.actor.fsdp.mp_param_dtype=fp16")
    assert "rounded away" in str(*doubts(load_config(path, ["worker.actor.fsdp.torch_dtype=bf16"])))
    lora = ["worker.actor.fsdp.torch_dtype=bf16", "worker.actor.model.lora.rank=8"]
    assert doubts(load_config(path, lora)) == []
    # EasyR1 casts adapters too; its own optimizer keeps what rounding drops.
    there = [*lora, "engine=easyr1"]
    assert "adamw_bf16 train" in str(*doubts(load_config(path, there)))
    assert doubts(load_config(path, [*there, "worker.actor.optim.strategy=adamw_bf16"])) == []
    assert "above 0" in refusal(path, "worker.rollout.top_p=0")


def test_a_kl_loss_that_holds_nothing_is_said(path):
    settings = ["algorithm.disable_kl=false", "algorithm.use_kl_loss=true"]
    assert "adds noise" in str(*doubts(load_config(path, settings)))
    assert doubts(load_config(path, [*settings, "algorithm.kl_penalty=low_var_kl"])) == []


def test_a_length_that_no_response_has_is_said_of_dr_grpo(path):
    dr_grpo = ["worker.actor.loss_type=dr_grpo", "data.max_response_length=300"]
    (said,) = doubts(load_config(path, dr_grpo))
    assert said.what.endswith("at most 0.1 of grpo's")
    assert said.change == "write worker.actor.length_constant=300"
    assert str(said) == f"{said.what}; {said.change}"
    assert doubts(load_config(path, [*dr_grpo, "worker.actor.length_constant=300"])) == []
    assert doubts(load_config(path, dr_grpo[1:])) == []


def test_a_weight_of_papo_that_outweighs_the_objective_is_said(path):
    (said,) = doubts(load_config(path, ["algorithm.papo.kl_prcp_coef=100"]))
    assert "algorithm.papo.kl_prcp_coef is 100" in said.what
    assert doubts(load_config(path, ["algorithm.papo.kl_prcp_coef=1"])) == []


@pytest.mark.parametrize(
    ("settings", "says", "sound"),
    [
        (["worker.actor.log_clip_low=0", "worker.actor.log_clip_high=0"], "next to nothing is learned", 1e-3),
        (["worker.actor.loss_type=power_mean", "worker.actor.mean_power=1000"], "largest ratio", 100),
        (["worker.actor.loss_type=power_mean", "worker.actor.mean_power=-1000"], "smallest ratio", -1),
        (["algorithm.papo.kl_prcp_coef=0.01", "algorithm.papo.black_prob=1"], "wholly black", 0.9),
        (["algorithm.reward_weights={accuracy: -1}"], "no weight above 0", "{accuracy: -1, format: 0.1}"),
        (
            [
                "algorithm.rollout_correction.rollout_rs=token_k1",
                "algorithm.rollout_correction.rollout_rs_threshold=1.0000000001",
            ],
            "token_k1 accepts no ratio but 1",
            1.001,
        ),
    ],
)
def test_values_that_nobody_means_are_said(path, settings, says, sound):
    """sound: a value of the last setting of which nothing is said."""
    (said,) = doubts(load_config(path, settings))
    assert says in said.what
    assert said.change
    key = settings[-1].partition("=")[0]
    assert doubts(load_config(path, [*settings, f"{key}={sound}"])) == []


def test_dtypes_are_honoured_not_placement(path):
    config = load_config(
        path, ["worker.actor.fsdp.torch_dtype=bf16", "worker.actor.fsdp.mp_param_dtype=bf16"]
    )
    assert not any("placement" in notice for notice in notices(config))
    assert "worker.actor.fsdp.fsdp_size" in str(notices(load_config(path, ["worker.actor.fsdp.fsdp_size=8"])))


@pytest.mark.parametrize(
    "override",
    [
        "worker.actor.loss_type=easyr1/cispo",
        "worker.actor.optim.strategy=adamw_bf16",
        "worker.rollout.ignore_eos=true",
    ],
)
def test_what_only_engine_easyr1_can_do_is_refused_on_local_by_name(path, override):
    message = refusal(path, override)
    assert override.split("=")[0] in message
    assert repr(override) in message
    assert load_config(path, [override, "engine=easyr1"])


@pytest.mark.parametrize("engine", ["local", "easyr1"])
@pytest.mark.parametrize(
    "override",
    [
        "algorithm.adv_estimator=gae",
        "algorithm.adv_estimator=reinforce_plus_plus",
        "algorithm.adv_estimator=remax",
        "algorithm.disable_kl=false",
        "algorithm.kl_type=adaptive",
        "algorithm.lam=0.95",
        "algorithm.kl_penalty=full",
        "worker.actor.model.trust_remote_code=true",
        "worker.reward.skip_special_tokens=false",
        "trainer.logger=[console,swanlab]",
        "trainer.critic_warmup=3",
    ],
)
def test_what_only_easyr1_itself_can_do_is_refused_by_name(path, override, engine):
    message = refusal(path, override, f"engine={engine}")
    assert override.split("=")[0] in message
    assert repr(override) in message


@pytest.mark.parametrize("engine", ["local", "easyr1"])
@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("engine=ray", "local, easyr1"),
        ("data.on_bad_row=ignore", "error, skip"),
        ("algorithm.adv_estimator=grop", "did you mean grpo"),
        ("algorithm.adv_estimator=reinforce_plus_plus", "reinforce_plus_plus_baseline"),
        ("algorithm.adv_estimator=gdpo", "algorithm.reward_weights: {accuracy: 1.0, format: 0.5}"),
        ("algorithm.adv_estimator=gigpo", "without environment.name is a question with one answer"),
        ("algorithm.gamma=0.95", "only gigpo and gigpo_no_std discount"),
        ("algorithm.gamma=1.5", "must be between 0 and 1"),
        ("algorithm.step_advantage_weight=0.5", "only gigpo and gigpo_no_std use it"),
        ("algorithm.step_advantage_weight=-1", "0 or greater"),
        ("algorithm.reward_weights={accuracy: high}", "a mapping of names to numbers"),
        ("algorithm.reward_weights={accuracy: true}", "a mapping of names to numbers"),
        ("algorithm.reward_weights={accuracy: .inf}", "a weight is a finite number"),
        ("algorithm.reward_weights={accuracy: 0}", "no part with a weight other than 0"),
        ("algorithm.reward_weights={unscored: 1}", "can have no weight"),
        ("worker.actor.loss_type=gmop", "did you mean gmpo"),
        ("worker.actor.loss_type=gspo_token", "easyr1/gspo_token"),
        ("worker.actor.tau_positive=1.0", "does not use tau_positive"),
        ("worker.actor.tau_negative=0", "does not use tau_negative"),
        ("worker.actor.loss_type=easyr1/gmpo", "EasyR1"),
        ("worker.actor.optim.lr_scheduler_type=linear", "constant, cosine"),
        ("trainer.logger=[tensorbord]", "did you mean tensorboard"),
        ("data.rollout_batch_size=100", "must be a multiple"),
        ("worker.rollout.n=1", "at least 2 responses"),
        ("worker.rollout.temperature=0", "greater than 0"),
        ("worker.actor.log_clip_low=-0.1", "not negative"),
        ("worker.actor.optim.lr=.nan", "0 or greater"),
        ("worker.actor.optim.betas=[0.9]", "two numbers"),
        ("worker.rollout.top_p=1.5", "between 0 and 1"),
        ("data.max_response_length=0", "greater than 0"),
        ("data.min_pixels=5000000", "the first is larger"),
        ("trainer.save_limit=0", "-1"),
        ("trainer.val_freq=5", "needs data.val_files"),
        ("algorithm.use_kl_loss=true", "algorithm.disable_kl: false"),
        ("algorithm.overlong_responses=soft", "needs algorithm.overlong_buffer"),
        ("algorithm.overlong_buffer=100", "only algorithm.overlong_responses: soft uses it"),
        ("algorithm.filter_low=0.99", "no mean lies between"),
        ("worker.rollout.val_override_config={max_tokens: 3}", "there is no 'max_tokens'"),
        ("worker.rollout.val_override_config={n: 0}", "n is 0"),
        ("worker.actor.loss_avg_mode=seq", "does not use loss_avg_mode"),
        ("worker.actor.clip_ratio_dual=3.0", "does not use clip_ratio_dual"),
        ("data.format_prompt=./nowhere/math.jinja", "no such file"),
        ("worker.reward.reward_function=./nowhere.py:compute_score", "no file ./nowhere.py"),
        ("trainer.load_checkpoint_path=runs/none", "no such file or folder"),
        ("worker.actor.model.model_path=null", "is missing"),
        ("worker.reward.reward_function=null", "is missing"),
        ("data.train_files=", "data.train_files"),
    ],
)
def test_settings_that_cannot_run_are_refused_with_the_reason(path, engine, override, says):
    message = refusal(path, f"engine={engine}", override)
    assert says in message
    assert override.split("=")[0] in message


def test_temperatures_belong_to_sapo_alone(path):
    for loss_type in ("sapo", "easyr1/sapo"):
        own = ["engine=easyr1", f"worker.actor.loss_type={loss_type}", "worker.actor.tau_negative=2"]
        assert load_config(path, own).worker.actor.tau_negative == 2
        for value in (-1.0, 0.0, 101.0):
            said = refusal(path, *own, f"worker.actor.tau_positive={value}")
            assert f"tau_positive is {value}: it is a temperature of 0.001 to 100" in said
            assert "\n" not in said, "one fault is one message"
    other = ["engine=easyr1", "worker.actor.loss_type=easyr1/cispo", "worker.actor.tau_negative=2"]
    assert "easyr1/cispo does not use it" in refusal(path, *other)
    assert load_config(path, [*other, "worker.actor.tau_negative=null"])


def test_every_option_of_an_objective_can_be_written():
    assert {f"worker.actor.{option}" for option in OBJECTIVE_KEYS} <= set(all_keys())


@pytest.mark.parametrize("loss_type", OBJECTIVES)
def test_each_objective_takes_its_own_options_and_no_other(path, loss_type):
    own = {option: f"worker.actor.{option}=0.3" for option in OBJECTIVES[loss_type].defaults}
    config = load_config(path, [f"worker.actor.loss_type={loss_type}", *own.values()])
    assert all(value_of(config, f"worker.actor.{option}") == 0.3 for option in own)
    other = next(option for option in ("log_clip_low", "clip_ratio_low") if option not in own)
    assert f"worker.actor.{other}" in refusal(
        path, f"worker.actor.loss_type={loss_type}", f"worker.actor.{other}=0.3"
    )


def test_null_takes_back_what_a_base_wrote(path):
    load_config(path, ["worker.actor.log_clip_low=0.2", "worker.actor.loss_type=gmpo"])
    clip = ["worker.actor.log_clip_low=0.2", "worker.actor.loss_type=grpo"]
    assert "log_clip_low" in refusal(path, *clip)
    assert load_config(path, [*clip, "worker.actor.log_clip_low=null"]).worker.actor.log_clip_low is None


@pytest.mark.parametrize("estimator", GROUP_ADVANTAGES)
@pytest.mark.parametrize("engine", ["local", "easyr1"])
def test_every_estimator_runs_on_both_engines_and_compares_at_least_two_responses(path, estimator, engine):
    chosen = [f"engine={engine}", f"algorithm.adv_estimator={estimator}"]
    chosen += ["algorithm.reward_weights={accuracy: 1.0, format: 0.5}"]
    assert load_config(path, chosen).algorithm.adv_estimator == estimator
    assert "at least 2 responses" in refusal(path, *chosen, "worker.rollout.n=1")


def test_games_have_gigpo_and_rloo_needs_a_baseline_of_episodes():
    config = schema.Config()
    config.environment.name, config.worker.rollout.n, algorithm = "gridworld", 8, config.algorithm
    algorithm.adv_estimator, algorithm.gamma = "gigpo", 0.95
    config.written = frozenset({"algorithm.gamma", "algorithm.step_advantage_weight"})
    assert list(advantage_problems(config, str)) == []
    algorithm.adv_estimator, algorithm.gamma, config.written = "rloo", 1.0, frozenset()
    (said,) = advantage_problems(config, str)
    assert said.endswith("write algorithm.episode_baseline: episodes")
    algorithm.episode_baseline = "episodes"
    assert list(advantage_problems(config, str)) == []


def test_weights_of_a_base_are_changed_one_by_one_and_taken_back(path):
    base = ["algorithm.reward_weights={accuracy: 1.0, format: 0.5}"]
    changed = load_config(path, [*base, "algorithm.reward_weights.format=-2"])
    assert changed.algorithm.reward_weights == {"accuracy": 1.0, "format": -2.0}
    assert load_config(path, [*base, "algorithm.reward_weights=null"]).algorithm.reward_weights is None


@pytest.mark.parametrize(
    ("weights", "runs"),
    [
        ("{accuracy: 1.0}", False),
        ("{accuracy: 1.0, overlong: 0}", False),
        ("{accuracy: 1.0, overlong: 1.0}", True),
        ("{overall: 1.0, overlong: 1.0}", False),
        ("{overall: 1.0, format: 0.2}", True),
    ],
)
def test_soft_overlong_punishment_needs_one_place_among_the_weights(path, weights, runs):
    soft = ["algorithm.overlong_responses=soft", "algorithm.overlong_buffer=10"]
    soft += [f"algorithm.reward_weights={weights}"]
    if runs:
        load_config(path, soft)
    else:
        assert "algorithm.overlong_responses: soft" in refusal(path, *soft)


def test_a_template_name_needs_no_file(path):
    assert load_config(path, ["data.format_prompt=math"]).data.format_prompt == "math"


def test_validation_only_needs_no_training_rows_and_one_sample(path):
    overrides = ["trainer.val_only=true", "data.val_files=rows", "data.train_files=''", "worker.rollout.n=1"]
    assert load_config(path, overrides).trainer.val_only


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "./",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "/tmp/x",
        "//x",
        "a\nb",
        "a\x1b[2Jb",
        "\u2028",
        "\x7f",
    ],
)
def test_a_name_that_leaves_runs_is_refused_when_the_file_is_read(write, name):
    assert "a run needs a name" in refusal(write(trainer={"experiment_name": name}))


@pytest.mark.parametrize(
    "name", ["demo", "team/run 1", "..x", "a..b", "größer", "実験", ".hidden", "~", "-x"]
)
def test_any_other_name_is_taken(write, name):
    config = load_config(write(trainer={"experiment_name": name}))
    assert config.trainer.save_checkpoint_path == f"runs/{name}"


def test_the_runs_folder_itself_may_lie_anywhere(write, tmp_path):
    path = write(trainer={"save_checkpoint_path": f"../{tmp_path.name}/x"})
    assert load_config(path).trainer.save_checkpoint_path == f"../{tmp_path.name}/x"
    for key in ("save_checkpoint_path", "project_name", "load_checkpoint_path"):
        assert f"trainer.{key}" in (said := refusal(write(trainer={key: "a\0b"})))
        assert "NUL" in said
