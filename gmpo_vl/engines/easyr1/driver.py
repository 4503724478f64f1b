"""`engine: easyr1`: checks that cost nothing, then Ray, then a run's steps."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.engines.easyr1.checkpoint import check_checkpoint
from gmpo_vl.engines.easyr1.config import to_easyr1, with_absolute_paths
from gmpo_vl.engines.easyr1.cpu_vllm import vllm_is_for_cpus
from gmpo_vl.engines.easyr1.engine import GMPOTrainer
from gmpo_vl.engines.easyr1.limits import check, check_model, ranks_of, without_use
from gmpo_vl.engines.loop import run_session
from gmpo_vl.engines.opening import open_session, run_of
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.processes import away_from_working_directory
from gmpo_vl.rewards.inputs import carried
from gmpo_vl.rewards.loading import Answered, Reward, Scored
from gmpo_vl.runs import Run
from gmpo_vl.setup import configured_model, load_configured_reward
from gmpo_vl.storage.locks import locked
from gmpo_vl.storage.manifest import check_model_files

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

OUT_OF_MEMORY = (
    "a GPU ran out of memory: {cause}\nIn an update or its log-probs: lower "
    "worker.actor.max_tokens_per_micro_batch; while vLLM starts or wakes: "
    "worker.rollout.gpu_memory_utilization. The same command goes on from the last checkpoint"
)
PROCESS_ENDED = (
    "a process of this run ended: {cause}\nWhere nobody ended it, the host's memory may have: what "
    "worker.actor.offload and worker.ref.fsdp.enable_cpu_offload move there takes some. The same command "
    "goes on from the last checkpoint"
)


def train(config: Config) -> Run:
    """Run the configuration to its last step. A run with checkpoints goes on from its last one.

    Asked to stop (Ctrl-C, SIGTERM) it saves and raises Stopped. Settings, files, data and checkpoint are
    checked before Ray is started. Raises FolderInUse where another process has the run's folder.
    """
    check(config)
    check_model(config, configured_model(config))
    check_model_files(model_folder(str(config.worker.actor.model.model_path)))
    print("".join(f"{line}\n" for line in without_use(config)), end="", flush=True)
    # The ranks write when this process asks, so its lock is theirs.
    with locked(run_of(config).folder), _ray_errors_in_words(config):
        session = open_session(config, check_checkpoint, _start)
        if session.reward is not None:  # games score themselves, here or in processes of their own
            session.reward = cast(Reward, RemoteReward(with_absolute_paths(config), session.reward))
        return run_session(session)  # takes SIGTERM from Ray, which took it for itself


def _start(config: Config, prompts: PromptSet, steps: int, checkpoint: Path | None) -> GMPOTrainer:
    cpu = start_ray(config)
    workers = GMPOTrainer(to_easyr1(config, steps, cpu), config, prompts, worker_class(cpu))
    workers.init_workers()
    if checkpoint is not None:
        workers.load(checkpoint / "actor")
    return workers


@contextmanager
def _ray_errors_in_words(config: Config) -> Iterator[None]:
    """Raise what a worker raised, or say why a process may have ended. Afterwards Ray is shut down."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FloatingPointError | ValueError | OSError):
            raise cause from error  # a sentence for people, from a worker
        # Also what vLLM's allocator raises when it wakes ("CUDA Error: out of memory at ...").
        if isinstance(cause, RuntimeError) and "out of memory" in str(cause):
            raise OSError(OUT_OF_MEMORY.format(cause=str(cause).partition("\n")[0])) from error
        raise
    except ray.exceptions.RayActorError as error:
        raise ChildProcessError(PROCESS_ENDED.format(cause=error)) from error
    finally:
        if ray.is_initialized() and config.trainer.ray_timeline is not None:
            ray.timeline(filename=config.trainer.ray_timeline)
        ray.shutdown()


def start_ray(config: Config) -> bool:
    """Join the cluster that RAY_ADDRESS names, or start one here.

    Returns whether there is no GPU at all: then the run is a trial on CPUs (cpu.py), and is told so. Ray puts
    the working directory first on its processes' module path: that is not where the run was started.
    """
    wanted = ranks_of(config)
    processes = wanted + config.worker.reward.num_cpus  # EasyR1 gives each GPU's process one CPU
    environment, options = dict(ENVIRONMENT), {}
    here, joins = torch.cuda.device_count(), "RAY_ADDRESS" in os.environ
    cpu = here == 0 and not joins
    if cpu:  # a small, busy machine: Ray and EasyR1 wait two minutes at most for what they start
        environment |= {"OMP_NUM_THREADS": "1"}
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
        os.environ.setdefault("RAY_worker_niceness", "0")  # else behind everything else that runs here
    if not joins:  # without an address Ray joins a cluster that somebody started on this machine
        options = {"address": "local", "num_gpus": wanted if cpu else here, "include_dashboard": False}
        options["num_cpus"] = processes if cpu else None
    with away_from_working_directory():
        ray.init(**options, runtime_env={"env_vars": environment})
    if cpu:
        sampler = f"vLLM {version('vllm')}" if vllm_is_for_cpus() else "transformers"
        print(f"no GPU here: a trial on the CPU (gloo, SDPA, rollouts by {sampler})", flush=True)
    problem = _missing(config, processes)
    if problem:  # Ray would wait for ever without a word
        ray.shutdown()
        raise ConfigError(problem)
    return cpu


def _missing(config: Config, processes: int) -> str | None:
    """What the run wants and Ray does not have."""
    trainer, found = config.trainer, ray.cluster_resources()
    for what, needed in (("GPU", ranks_of(config)), ("CPU", processes)):
        if found.get(what, 0) < needed:
            several = "; to use several machines: ray start on each, then RAY_ADDRESS=auto for this command"
            return (
                f"trainer.nnodes {trainer.nnodes} x trainer.n_gpus_per_node {trainer.n_gpus_per_node} and "
                f"worker.reward.num_cpus {config.worker.reward.num_cpus} want {needed} {what}s, Ray has "
                f"{found.get(what, 0):g}{several if 'RAY_ADDRESS' not in os.environ else ''}"
            )
    machines = [node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]]
    if sum(int(gpus // trainer.n_gpus_per_node) for gpus in machines) < trainer.nnodes:
        return (
            f"trainer.nnodes {trainer.nnodes} x trainer.n_gpus_per_node {trainer.n_gpus_per_node}: Ray's "
            f"machines have {', '.join(f'{gpus:g}' for gpus in machines)} GPUs; EasyR1 puts n_gpus_per_node "
            "processes on one machine"
        )
    return None


def worker_class(cpu: bool) -> type:
    if cpu:
        from gmpo_vl.engines.easyr1.cpu import CPUWorker as Worker
    else:
        from gmpo_vl.engines.easyr1.worker import GMPOWorker as Worker
    return Worker


class RewardProcess:
    """The run's reward in a Ray process of its own: one that is slow, or grows, leaves the driver alone.

    folder: where the run was started, from which a reward's options see paths. keys: environment variables
    that the reward reads an API key from. They come in this call because Ray logs a `runtime_env`.
    """

    def __init__(self, config: Config, folder: str, keys: Mapping[str, str]) -> None:
        if os.path.isdir(folder):  # else this is another machine
            os.chdir(folder)
        os.environ.update(keys)
        self.reward = load_configured_reward(config)

    def scored(self, answered: Sequence[Answered]) -> Scored:
        return self.reward.scored(answered)


class RemoteReward:
    """Scores as a rewards.loading.Reward does, in a RewardProcess. What the reward asks for of a row goes
    there, pictures encoded, and nothing else of it.
    """

    def __init__(self, config: Config, reward: Reward) -> None:
        self.asks = reward.asks
        remote: Any = ray.remote(RewardProcess)
        # Where the driver is, if there is room: the file and what it reads lie there.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": config.worker.reward.num_cpus, "scheduling_strategy": here}
        name = reward.options.get("api_key_env")
        keys = {name: os.environ[name]} if isinstance(name, str) and name in os.environ else {}
        self.process = remote.options(**options).remote(config, os.getcwd(), keys)

    def scored(self, answered: Sequence[Answered]) -> Scored:
        sent = [(carried(self.asks, example), responses) for example, responses in answered]
        return ray.get(self.process.scored.remote(sent))
