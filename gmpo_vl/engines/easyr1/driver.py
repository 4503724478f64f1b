"""`engine: easyr1`: checks that cost nothing, then Ray, then a run's steps."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
import torch

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.engines.easyr1.checkpoint import check_checkpoint, load_progress
from gmpo_vl.engines.easyr1.config import to_easyr1, with_absolute_paths
from gmpo_vl.engines.easyr1.limits import check, without_use
from gmpo_vl.engines.easyr1.reward import RemoteReward
from gmpo_vl.engines.easyr1.steps import Session, run_steps, show_validation
from gmpo_vl.engines.easyr1.trainer import GMPOTrainer
from gmpo_vl.engines.local.ahead import Ahead
from gmpo_vl.engines.local.checkpoint import Progress, checkpoint_to_go_on_from, is_own
from gmpo_vl.engines.local.loggers import open_loggers
from gmpo_vl.engines.local.opening import keep_config
from gmpo_vl.engines.local.plan import total_steps
from gmpo_vl.engines.local.setup import load_configured_reward, load_split
from gmpo_vl.engines.local.stopping import StopRequest
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.processing import load_processor
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
    load_configured_reward(config)
    run, checkpoint = open_run(config)
    folder = model_folder(
        str(config.worker.actor.model.tokenizer_path or config.worker.actor.model.model_path)
    )
    processor = load_processor(folder, config.data.override_chat_template)
    prompts = load_split(config, config.data.train_files, processor)
    validation = load_split(config, config.data.val_files, processor) if config.data.val_files else None
    progress = load_progress(checkpoint, prompts) if checkpoint is not None else Progress()
    if checkpoint is not None and not is_own(run, checkpoint):
        progress.best_accuracy, progress.best_step = -1.0, -1
    for name, split in (("train", prompts), ("validation", validation)):
        if split is not None and len(split.examples.faults):
            split.examples.faults.write(run.folder / f"{name}.bad_rows.jsonl")
            print(f"{name}: {split.examples.faults.summary()}", flush=True)
    steps = total_steps(config, len(prompts))
    if not config.trainer.val_only:
        run.rewind(progress.step if checkpoint is not None else -1)
        keep_config(config, run)
    for line in run.read_metrics():
        progress.note_validation(line["step"], line)
        if line["step"] == progress.step:
            progress.unfinished = {}
    cpu = start_ray(config)
    try:
        workers = GMPOTrainer(to_easyr1(config, steps, cpu), config, prompts, worker_class(cpu))
        workers.init_workers()
        if checkpoint is not None:
            workers.load(checkpoint / "actor")
            print(f"going on from {checkpoint}", flush=True)
        order = EpochOrder(len(prompts), config.data.seed, config.data.shuffle)
        session = Session(
            config=config,
            run=run,
            workers=workers,
            reward=RemoteReward(with_absolute_paths(config)),
            prompts=prompts,
            validation=validation,
            order=order,
            next_prompts=Ahead(lambda position, count: prompts.encode(order.take(position, count))),
            total_steps=steps,
            progress=progress,
            first_step=progress.step,
            stop=StopRequest(),
            loggers=open_loggers(config, run, progress.step, steps),
        )
        run_session(session)
    finally:
        if config.trainer.ray_timeline is not None:
            ray.timeline(filename=config.trainer.ray_timeline)
        ray.shutdown()
    return run


def run_session(session: Session) -> None:
    try:
        with session.stop:  # after ray.init, which takes SIGTERM for itself
            if session.config.trainer.val_only:
                show_validation(session)
            else:
                run_steps(session)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FloatingPointError | ValueError | OSError):
            raise cause from error  # a sentence for people, from a worker
        raise
    finally:
        session.next_prompts.close()
        for logger in session.loggers:
            logger.close()


def open_run(config: Config) -> tuple[Run, Path | None]:
    """The run's folder and the checkpoint to go on from, checked against this run's GPUs."""
    trainer = config.trainer
    run = Run(str(trainer.save_checkpoint_path))
    checkpoint = checkpoint_to_go_on_from(run, trainer)
    if checkpoint is not None:
        check_checkpoint(checkpoint, config)
    run.create().remove_partial_checkpoints()
    return run, checkpoint


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
