"""What can be set. Names, meanings and defaults are EasyR1's; a line marked `ours` adds a key or another
default.

Units: batch sizes of prompts count PROMPTS (an update of `global_batch_size` prompts has n times as many
rollouts), lengths count tokens, pixels are width x height of an image, clips of `log_clip_*` are in log space
and those of `clip_ratio_*` are offsets of the ratio. -1 in a frequency or a limit means never, or no limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, get_type_hints

from gmpo_vl.policy.corrections import WEIGHTS as ROLLOUT_WEIGHTS


class ConfigError(ValueError):
    """Settings that cannot run. The message names each key, where it was written, and what to write."""


KL_KINDS = ("kl", "k1", "mse", "k2", "low_var_kl", "k3", "abs")
DTYPES = ("bf16", "fp16", "fp32")
GROUP_ADVANTAGES = ("grpo", "grpo_no_std", "rloo", "reinforce_plus_plus_baseline", "gdpo")
STATE_ADVANTAGES = ("gigpo", "gigpo_no_std")  # of games alone

Rule = tuple[Callable[[Any], bool], str]  # is a value allowed, and the sentence's end where it is not
POSITIVE: Rule = (lambda x: 0 < x < float("inf"), "must be greater than 0")
NOT_NEGATIVE: Rule = (lambda x: 0 <= x < float("inf"), "must be 0 or greater")
SHARE: Rule = (lambda x: 0 <= x <= 1, "must be between 0 and 1")
AT_LEAST_2: Rule = (lambda x: x >= 2, "must be 2 or greater")
ABOVE_0_UP_TO_1: Rule = (lambda x: 0 < x <= 1, "must be between 0 and 1, and above 0")
AT_LEAST_1: Rule = (lambda x: x >= 1, "bounds a ratio from above, so it must be at least 1")
POSITIVE_OR_NEVER: Rule = (
    lambda x: x == -1 or x > 0,
    "must be greater than 0, or -1 for never or no limit",
)
PILLOW_OPENS: Rule = (
    lambda x: 0 < x <= 178_956_970,
    "must be between 1 and 178,956,970, above which Pillow opens no picture",
)


def limited(default: Any, rule: Rule) -> Any:
    """A key whose values keep a rule; None, where the type allows it, always does."""
    return field(default=default, metadata={"rule": rule})


def one_of(default: Any, choices: tuple[str, ...]) -> Any:
    """A key that is chosen by name. What an engine lacks of the names stands in support.py."""
    return field(default=default, metadata={"choices": choices})


@dataclass
class DataConfig:
    train_files: str = ""  # a file, a folder, or a hub id; `@SPLIT` after it picks a split
    val_files: str = ""
    prompt_key: str = "problem"  # ours: EasyR1's class says `prompt`, its config file and data sets `problem`
    answer_key: str = "answer"
    image_key: str = "images"
    video_key: str = "videos"
    image_dir: str | None = None  # where relative image paths of a row begin
    video_fps: float = 2.0
    max_prompt_length: int = limited(512, POSITIVE)  # tokens, image tokens included
    max_response_length: int = limited(512, POSITIVE)
    rollout_batch_size: int = limited(512, POSITIVE)  # prompts of one step
    mini_rollout_batch_size: int | None = limited(None, POSITIVE)
    val_batch_size: int = limited(-1, POSITIVE_OR_NEVER)
    format_prompt: str | None = None  # a jinja file, or the name of a template in gmpo_vl/data/templates
    override_chat_template: str | None = None  # a jinja file
    shuffle: bool = True
    seed: int = 1
    min_pixels: int | None = limited(262144, POSITIVE)
    max_pixels: int | None = limited(4194304, POSITIVE)
    # ours: of a stored picture; a larger one is a bad row, refused before it is decoded
    max_image_pixels: int = limited(89_478_485, PILLOW_OPENS)
    filter_overlong_prompts: bool = True  # longer than max_prompt_length: left out, else a bad row
    filter_overlong_prompts_workers: int = 16
    # ours: error | skip. What happens to a row that cannot be used
    on_bad_row: str = one_of("error", ("error", "skip"))


@dataclass
class RolloutCorrectionConfig:
    # ours, as verl names it: token | sequence | geometric. What the sampler drew is weighed by
    # pi_old / pi_sampler of each token, by their product or by their geometric mean; null: by 1
    rollout_is: str | None = one_of(None, ROLLOUT_WEIGHTS)
    # ours, as verl names it: the largest weight, a ratio; .inf: no limit
    rollout_is_threshold: float = limited(2.0, AT_LEAST_1)
    # ours, as verl names it: what is rejected, options separated by commas: token_k1, token_k2, token_k3,
    # seq_sum_k1 (k2, k3), seq_mean_k1 (k2, k3), seq_max_k2 (k3); null: nothing
    rollout_rs: str | None = None
    # ours, as verl names it: one for each option, or one for all. For k1 "LOWER_UPPER" in quotes, limits of
    # pi_sampler / pi_old, or the upper one, whose reciprocal is the lower; for k2, k3 an upper limit in nats
    rollout_rs_threshold: str | float | int | None = None


@dataclass
class PapoConfig:
    """PAPO (docs/papo.md), off by default. Names are those of its public code where that has the key."""

    # ours: weight of the KL to the policy that sees masked pictures, which is maximised; 0: no PAPO
    kl_prcp_coef: float = limited(0.0, NOT_NEGATIVE)
    # ours: ceiling of a token's estimate of that KL, nats; at it a token has no gradient
    kl_prcp_clipping: float = limited(10.0, POSITIVE)
    # ours: probability of each patch of a masked picture to be black
    black_prob: float = limited(0.6, ABOVE_0_UP_TO_1)
    # ours: side of these patches, pixels of the picture as the model sees it
    patch_size: int = limited(14, POSITIVE)
    # ours: does the policy also learn through the pass over the masked pictures?
    masked_gradient: bool = True
    # ours: weight of the entropy of responses to a picture, which is minimised
    ori_entropy_loss_coef: float = limited(0.0, NOT_NEGATIVE)
    # ours: the same of their entropy after the masked picture
    aug_entropy_loss_coef: float = limited(0.0, NOT_NEGATIVE)


@dataclass
class AlgorithmConfig:
    # discount of a turn's return under gigpo
    gamma: float = limited(1.0, SHARE)
    lam: float = 1.0
    # docs/advantages.md has the equations. ours: grpo_no_std (Dr.GRPO's), reinforce_plus_plus_baseline, gdpo;
    # of games gigpo, gigpo_no_std (docs/agents.md)
    adv_estimator: str = one_of(
        "grpo", (*GROUP_ADVANTAGES, *STATE_ADVANTAGES, "gae", "reinforce_plus_plus", "remax")
    )
    # ours: {part: weight} of the reward's parts: what is trained on in place of `overall`. gdpo needs it; 0
    # leaves a part out
    reward_weights: dict[str, float] | None = None
    # ours: EasyR1 puts a KL term into the reward unless told otherwise; the paper has none
    disable_kl: bool = True
    use_kl_loss: bool = False
    # kl (k1: as a loss only noise) | mse (k2) | low_var_kl (k3) | abs
    kl_penalty: str = one_of("kl", (*KL_KINDS, "full"))
    kl_coef: float = limited(1e-3, NOT_NEGATIVE)
    kl_type: str = one_of("fixed", ("fixed", "adaptive"))
    kl_horizon: float = 10000.0
    kl_target: float = 0.1
    # replace groups whose mean of `filter_key` is outside (filter_low, filter_high)
    online_filtering: bool = False
    filter_key: str = "accuracy"  # ours: by `overall`, an all-wrong group with a format reward passes
    filter_low: float = 0.01
    filter_high: float = 0.99
    # ours: score | mask | soft. What a response cut at its limit is worth
    overlong_responses: str = one_of("score", ("score", "mask", "soft"))
    # ours: tokens before the limit in which `soft` lowers the reward linearly
    overlong_buffer: int | None = limited(None, POSITIVE)
    overlong_penalty: float = limited(1.0, NOT_NEGATIVE)  # ours: what `soft` takes away at the limit
    # ours: turn | episode. What weighs the same in an update of games: every turn, or every episode
    episode_weight: str = one_of("turn", ("turn", "episode"))
    # ours: turns | episodes. Over what a group of games has its mean and deviation (docs/agents.md)
    episode_baseline: str = one_of("turns", ("turns", "episodes"))
    # ours: before | after. When a turn's penalty is taken: from its score, or from its normalised advantage
    turn_penalty: str = one_of("before", ("before", "after"))
    # ours: of gigpo, verl-agent's step_advantage_w: weight of what turns that saw the same are worth
    step_advantage_weight: float = limited(1.0, NOT_NEGATIVE)
    rollout_correction: RolloutCorrectionConfig = field(default_factory=RolloutCorrectionConfig)
    papo: PapoConfig = field(default_factory=PapoConfig)


@dataclass
class LoraConfig:
    rank: int = limited(0, NOT_NEGATIVE)  # 0: no LoRA
    alpha: int = limited(64, POSITIVE)
    target_modules: str = "all-linear"
    exclude_modules: str | None = None


@dataclass
class ModelConfig:
    model_path: str | None = None
    tokenizer_path: str | None = None  # None: model_path
    override_config: dict[str, Any] = field(default_factory=dict)
    enable_gradient_checkpointing: bool = True
    trust_remote_code: bool = False  # ours: EasyR1 says true
    freeze_vision_tower: bool = False  # the ViT itself; a projector between it and the decoder is trained
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class OptimConfig:
    lr: float = limited(1e-6, NOT_NEGATIVE)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = limited(1e-2, NOT_NEGATIVE)
    strategy: str = one_of("adamw", ("adamw", "adamw_bf16"))
    lr_warmup_ratio: float = limited(0.0, SHARE)
    lr_warmup_steps: int | None = limited(None, NOT_NEGATIVE)  # wins over lr_warmup_ratio
    min_lr_ratio: float | None = limited(None, SHARE)  # where `cosine` ends, as a share of lr
    lr_scheduler_type: str = one_of("constant", ("constant", "cosine"))  # constant | cosine


@dataclass
class FSDPConfig:
    enable_full_shard: bool = True
    enable_cpu_offload: bool = False
    enable_rank0_init: bool = True
    use_orig_params: bool = False
    torch_dtype: str | None = one_of(None, DTYPES)  # the weights': bf16 | fp16 | fp32, None: fp32
    fsdp_size: int = -1
    mp_param_dtype: str = one_of("bf16", DTYPES)  # in which the forward pass computes
    mp_reduce_dtype: str = one_of("fp32", DTYPES)
    mp_buffer_dtype: str = one_of("fp32", DTYPES)


@dataclass
class OffloadConfig:
    offload_params: bool = False
    offload_optimizer: bool = False


@dataclass
class ActorConfig:
    strategy: str = "fsdp"
    global_batch_size: int = limited(256, POSITIVE)  # prompts of one update
    micro_batch_size_per_device_for_update: int = limited(4, POSITIVE)  # rollouts
    micro_batch_size_per_device_for_experience: int = limited(16, POSITIVE)  # rollouts
    max_tokens_per_micro_batch: int | None = limited(None, POSITIVE)  # ours
    # ours: auto | always | never. Each prompt once per group; auto: where it proves exact
    share_prefix: str = one_of("auto", ("auto", "always", "never"))
    max_grad_norm: float = limited(1.0, POSITIVE)
    loss_type: str = "gmpo"  # ours: an objective of gmpo_vl.policy, FILE.py:NAME, or easyr1/NAME
    loss_options: dict[str, Any] = field(default_factory=dict)  # ours: of FILE.py:NAME
    log_clip_low: float | None = None  # ours. None here and below: the objective's own
    log_clip_high: float | None = None
    clip_ratio_low: float | None = None
    clip_ratio_high: float | None = None
    clip_ratio_dual: float | None = None  # of easyr1/default
    mean_power: float | None = None  # ours: of power_mean
    length_constant: float | None = None  # ours: of dr_grpo, tokens
    # ours: recompute | rollout. rollout: the sampler's own, compared in the first mini-batch
    old_log_probs: str = one_of("recompute", ("recompute", "rollout"))
    # ours: what is added to the objective per unit of entropy
    entropy_coef: float = limited(0.0, NOT_NEGATIVE)
    # of easyr1/NAME; our objectives say themselves what they average
    loss_avg_mode: str = one_of("token", ("token", "seq"))
    # of sapo and easyr1/sapo: temperature of the gate for positive and for other advantages
    tau_positive: float | None = None
    tau_negative: float | None = None
    ppo_epochs: int = limited(1, POSITIVE)
    padding_free: bool = True
    dynamic_batching: bool = True
    ulysses_size: int = 1
    use_torch_compile: bool = True
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    offload: OffloadConfig = field(default_factory=OffloadConfig)


@dataclass
class RefConfig:
    strategy: str = "fsdp"
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    offload: OffloadConfig = field(default_factory=OffloadConfig)


@dataclass
class RolloutConfig:
    name: str = "vllm"
    n: int = limited(1, POSITIVE)  # responses per prompt
    temperature: float = limited(1.0, POSITIVE)
    top_p: float = limited(1.0, ABOVE_0_UP_TO_1)
    top_k: int = limited(-1, POSITIVE_OR_NEVER)
    seed: int = 1
    limit_images: int = 0
    dtype: str = "bf16"
    gpu_memory_utilization: float = 0.6
    ignore_eos: bool = False
    enforce_eager: bool = False
    enable_chunked_prefill: bool = False
    tensor_parallel_size: int = 2
    max_model_len: int | None = None
    max_num_batched_tokens: int = 8192
    # ours: tokens (prompts and responses) whose keys and values engine local holds at once
    max_cached_tokens: int = limited(65_536, POSITIVE)
    disable_log_stats: bool = True
    disable_tqdm: bool = False
    val_override_config: dict[str, Any] = field(default_factory=dict)  # n, temperature, top_p, top_k, seed


@dataclass
class RewardConfig:
    reward_function: str | None = None  # path.py:function
    reward_function_kwargs: dict[str, Any] = field(default_factory=dict)
    skip_special_tokens: bool = True
    num_cpus: int = 1


@dataclass
class WorkerConfig:
    hybrid_engine: bool = True
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: dict[str, Any] = field(default_factory=dict)  # EasyR1's; nothing here has a critic
    ref: RefConfig = field(default_factory=RefConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)


@dataclass
class TrainerConfig:
    total_epochs: int = limited(15, POSITIVE)
    max_steps: int | None = limited(None, POSITIVE)  # wins over total_epochs
    project_name: str = "gmpo_vl"  # ours: EasyR1 says `easy_r1`
    experiment_name: str = "demo"
    logger: list[str] = field(  # ours: EasyR1 says console, wandb
        default_factory=lambda: ["console", "file"],
        metadata={"choices": ("console", "file", "tensorboard", "wandb", "mlflow", "swanlab")},
    )
    nnodes: int = 1
    n_gpus_per_node: int = 8
    max_try_make_batch: int = limited(20, POSITIVE_OR_NEVER)
    critic_warmup: int = 0
    val_freq: int = limited(-1, POSITIVE_OR_NEVER)
    val_before_train: bool = True
    val_only: bool = False
    val_generations_to_log: int = limited(0, NOT_NEGATIVE)
    kl_to_start_freq: int = -1  # ours: steps between two measurements of actor/kl_to_start
    # ours: training prompts whose starting answers it is measured on
    kl_to_start_prompts: int = limited(16, POSITIVE)
    # ours: steps between two measurements of actor/grad_noise; one takes as much memory as another gradient
    grad_noise_freq: int = limited(-1, POSITIVE_OR_NEVER)
    # ours: steps between two measurements of look/*, and one before the first step
    look_freq: int = limited(-1, POSITIVE_OR_NEVER)
    # ours: questions that look/* are measured on; of val_files, without them of train_files
    look_prompts: int = limited(64, AT_LEAST_2)
    save_freq: int = limited(-1, POSITIVE_OR_NEVER)
    save_limit: int = limited(-1, POSITIVE_OR_NEVER)
    # ours: keep the checkpoint with the best validation accuracy, whatever save_limit says
    save_best: bool = True
    save_model_only: bool = False
    save_checkpoint_path: str | None = None  # the run's folder. ours: None becomes runs/<experiment_name>
    load_checkpoint_path: str | None = None
    ray_timeline: str | None = None
    find_last_checkpoint: bool = True


@dataclass
class EnvironmentConfig:
    """Games of many turns (docs/environments.md). Without a name a row is a question with one answer."""

    # ours: alfworld | gridworld | FILE.py:CLASS | PACKAGE.MODULE:CLASS
    name: str | None = None
    # ours: an episode that is not over after so many is cut
    max_turns: int = limited(50, POSITIVE)
    # ours: how many past turns a turn shows
    history_length: int = limited(2, NOT_NEGATIVE)
    # ours: text of a turn, a shipped template's name or a jinja file; null: the environment's own
    template: str | None = None
    # ours: each game in a process of its own; null: as the environment says
    isolate: bool | None = None
    # ours: what the environment's class takes
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Config:
    """All settings of a run. `written` holds the dotted keys that a file or an override names, bases
    included.
    """

    engine: str = one_of("local", ("local", "easyr1"))  # ours: local | easyr1
    data: DataConfig = field(default_factory=DataConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    written: frozenset[str] = field(default=frozenset(), metadata={"omegaconf_ignore": True})


@dataclass(frozen=True)
class Key:
    """What one key takes: values of this type that keep the rule and are among the choices, where it has
    them.
    """

    type: Any
    rule: Rule | None
    choices: tuple[str, ...]


@cache
def all_keys(schema: Any = Config, prefix: str = "") -> dict[str, Key]:
    """Every dotted key that can be written; sections themselves are not keys."""
    hints = get_type_hints(schema)
    found: dict[str, Key] = {}
    for item in fields(schema):
        hint, said = hints[item.name], item.metadata
        if is_dataclass(hint):
            found |= all_keys(hint, f"{prefix}{item.name}.")
        elif not said.get("omegaconf_ignore"):
            found[prefix + item.name] = Key(hint, said.get("rule"), said.get("choices", ()))
    return found


def value_of(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    return attrgetter(key)(config)
