"""What a run on this engine will do, before it does it: settings against EasyR1's own classes, files, sizes, the split over
GPUs. Needs neither a GPU nor, where EasyR1 is not installed, EasyR1 (it then says what it could not ask)."""
# pyright: reportMissingImports=false

from __future__ import annotations

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.engines.easyr1.compatibility import find_easyr1, require_easyr1
from gmpo_vl.engines.easyr1.limits import check, check_model, without_use
from gmpo_vl.preflight import plan
from gmpo_vl.setup import configured_model


def dry_run(config: Config) -> str:
    """The plan as lines for a person. Raises ConfigError, or what reading the data raises."""
    check(config)
    check_model(config, configured_model(config))
    return "\n".join([plan.dry_run(config), *describe_split(config), *without_use(config), resolve(config)])


def describe_split(config: Config) -> list[str]:
    """Who does what."""
    actor, rollout, trainer = config.worker.actor, config.worker.rollout, config.trainer
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    prompts = actor.global_batch_size // gpus
    return [
        f"GPUs        {gpus} ({trainer.nnodes} x {trainer.n_gpus_per_node}); vLLM engines: "
        f"{gpus // rollout.tensor_parallel_size} x {rollout.tensor_parallel_size}",
        f"a GPU       {prompts:,} prompts ({prompts * rollout.n:,} rollouts) of an update",
    ]


def resolve(config: Config) -> str:
    """Put the settings into EasyR1's dataclasses, as the run will. Raises ConfigError where one has no place there."""
    if find_easyr1() is None:
        return "EasyR1      not installed here: its own configuration classes were not asked"
    home = require_easyr1()
    try:
        from gmpo_vl.engines.easyr1.config import to_easyr1
    except ImportError as error:
        return f"EasyR1      {home}; its configuration classes could not be asked: {error}"
    try:
        to_easyr1(config, training_steps=1)
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"EasyR1's configuration classes do not take these settings: {error}") from error
    return f"EasyR1      {home}; its configuration classes take these settings"
