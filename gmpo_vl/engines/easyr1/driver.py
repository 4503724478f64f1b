"""`engine: easyr1`: checks that cost nothing, then Ray, then a run's steps."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
import torch

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.engines.easyr1.checkpoint import check_checkpoint
from gmpo_vl.engines.easyr1.config import to_easyr1, with_absolute_paths
from gmpo_vl.engines.easyr1.limits import check, without_use
from gmpo_vl.engines.easyr1.reward import RemoteReward
from gmpo_vl.engines.easyr1.trainer import GMPOTrainer
from gmpo_vl.engines.loop import run_session
from gmpo_vl.engines.session import open_session
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.runs import Run

# What every process is started with: EasyR1's own choices (verl/trainer/main.py).
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    "NCCL_DEBUG": "WARN",
    "VLLM_LOGGING_LEVEL": "WARN",
    "TORCH_NCCL_AVOID_RECORD_STREAMS": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}


def train(config: Config) -> Run:
    """Run the configuration to its last step, going on from the run's last checkpoint where there is one.

    Asked to stop (Ctrl-C, SIGTERM) it saves and raises Stopped. Settings, files, data and checkpoint are checked before
    Ray is started.
    """
    check(config)
    print("".join(f"{line}\n" for line in without_use(config)), end="", flush=True)

    def start(fitting: Config, prompts: PromptSet, steps: int, checkpoint: Path | None) -> GMPOTrainer:
        cpu = start_ray(config)
        workers = GMPOTrainer(to_easyr1(fitting, steps, cpu), fitting, prompts, worker_class(cpu))
        workers.init_workers()
        if checkpoint is not None:
            workers.load(checkpoint / "actor")
        return workers

    try:
        session = open_session(config, check_checkpoint, start)
        session.reward = RemoteReward(with_absolute_paths(config))
        return run_session(session)  # takes SIGTERM from Ray, which took it for itself
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FloatingPointError | ValueError | OSError):
            raise cause from error  # a sentence for people, from a worker
        raise
    finally:
        if ray.is_initialized() and config.trainer.ray_timeline is not None:
            ray.timeline(filename=config.trainer.ray_timeline)
        ray.shutdown()


def start_ray(config: Config) -> bool:
    """Join the cluster that RAY_ADDRESS names, or start one here. Returns whether it has no GPU at all: then a run is a
    trial on CPUs (cpu.py), and is told so."""
    wanted = config.trainer.nnodes * config.trainer.n_gpus_per_node
    processes = wanted + config.worker.reward.num_cpus  # EasyR1 gives each GPU's process one CPU
    environment = dict(ENVIRONMENT)
    here = torch.cuda.device_count()
    if "RAY_ADDRESS" in os.environ:
        ray.init(runtime_env={"env_vars": environment})
        cpu = False
    else:
        cpu = here == 0
        if cpu:  # a small, busy machine: Ray's helpers may take longer to start than Ray waits for them
            environment |= {"OMP_NUM_THREADS": "1"}
            os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
        ray.init(
            num_gpus=wanted if cpu else here,
            num_cpus=processes if cpu else None,
            include_dashboard=False,
            runtime_env={"env_vars": environment},
        )
    if cpu:
        print("no GPU here: a trial on the CPU (gloo, SDPA, rollouts by transformers)", flush=True)
    found = ray.cluster_resources()
    for what, needed in (("GPU", wanted), ("CPU", processes)):
        if found.get(what, 0) < needed:  # Ray would wait for ever without a word
            ray.shutdown()
            raise ConfigError(
                f"trainer.nnodes {config.trainer.nnodes} x trainer.n_gpus_per_node {config.trainer.n_gpus_per_node} and "
                f"worker.reward.num_cpus {config.worker.reward.num_cpus} want {needed} {what}s, Ray has "
                f"{found.get(what, 0):g}"
            )
    return cpu


def worker_class(cpu: bool) -> Any:
    if cpu:
        from gmpo_vl.engines.easyr1.cpu import CPUWorker

        return CPUWorker
    from gmpo_vl.engines.easyr1.worker import GMPOWorker

    return GMPOWorker
