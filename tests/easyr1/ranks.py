"""EasyR1's worker in processes of this test: no Ray, the same classes, FULL_SHARD over gloo."""

import functools
import os
import socket
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from verl.workers import fsdp_workers

from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.cpu import CPUWorker
from gmpo_vl.engines.easyr1.serialisation import groups_to_proto
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.setup import load_split
from gmpo_vl.types import Example, Group, Response


def make_groups(config, count=8):
    """Prompts with and without pictures, ragged responses, old log-probs near the model's, advantages,
    nothing random.
    """
    processor = load_processor(config.worker.actor.model.model_path)
    prompts = load_split(config, config.data.train_files, processor).encode(range(count))
    for i in range(0, count, 3):
        prompts[i] = encode_prompt(Example(f"text-{i}", f"What is {i} + 2?", "3"), processor)
    draw = torch.Generator().manual_seed(0)
    groups = []
    for i, prompt in enumerate(prompts):
        lengths = [
            1 + (3 * i + 2 * k) % config.data.max_response_length for k in range(config.worker.rollout.n)
        ]
        ids = [torch.randint(20, 280, (length,), generator=draw) for length in lengths]
        responses = [
            Response(x, torch.full((len(x),), -5.6), "", len(x) < config.data.max_response_length, 0)
            for x in ids
        ]
        advantages = torch.randn(len(ids), generator=draw, dtype=torch.float64)
        old = [torch.randn(len(x), generator=draw) * 0.3 - 5.8 for x in ids]
        groups.append(Group(f"group-{i}", prompt, responses, advantages_G=advantages, old_log_probs=old))
    return groups


def run_ranks(world, task, *args, seconds=3600):
    """task(rank, world, *args) in `world` processes; what each returns (plain values, tensors), by rank. A
    rank that fails or hangs ends them all.
    """
    with socket.socket() as sock, tempfile.TemporaryDirectory() as folder:
        sock.bind(("", 0))
        port = sock.getsockname()[1]
        sock.close()
        processes = mp.start_processes(  # forked: everything is imported already
            _rank, args=(world, port, folder, task, args), nprocs=world, join=False, start_method="fork"
        )
        deadline = time.monotonic() + seconds
        while not processes.join(timeout=1):
            if time.monotonic() > deadline:
                for process in processes.processes:
                    process.kill()
                raise TimeoutError(f"the ranks were not done after {seconds} s: does one wait for another?")
        return [torch.load(Path(folder, str(rank)), weights_only=True) for rank in range(world)]


def _rank(rank, world, port, folder, task, args):
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    torch.save(task(rank, world, *args), Path(folder, str(rank)))
    dist.destroy_process_group()


class Float64:
    """In the place of EasyR1's table of dtypes, which ends at float32: what is left are differences that
    count.
    """

    @staticmethod
    def to_dtype(_name):
        return torch.float64


def start_worker(config, double=True):
    if double:
        fsdp_workers.PrecisionType = Float64  # in this process
    worker = CPUWorker(to_easyr1(config, 3, cpu=True).worker, "actor_rollout_ref")
    worker.init_model()
    return worker


def start_worker_with_sgd(config, lr):
    """Plain SGD: what is compared is gradients, after updates too, and Adam divides by their size."""
    worker = start_worker(config)
    worker.fsdp_module.clip_grad_norm_ = functools.partial(gradient_norm, worker.fsdp_module)
    optimizer = torch.optim.SGD([p for p in worker.fsdp_module.parameters() if p.requires_grad], lr=lr)
    worker.actor.actor_optimizer = worker.optimizer = optimizer
    return worker


def train(rank, world, config, order, lr, noise_step=None):
    """Updates on this rank's part of `order`; every update's gradient, all parameters, and the step's
    figures.
    """
    worker = start_worker_with_sgd(config, lr)
    gradients = []
    worker.optimizer.register_step_pre_hook(lambda *_: gradients.append(full_gradient(worker.fsdp_module)))
    tokens = [1 for group in order for _ in group.responses]
    way = worker.actor.policy.way  # as the driver's begins
    proto = groups_to_proto(order, lr=lr, way=way, global_token_num=tokens, noise_step=noise_step)
    data = proto.chunk(world)[rank]
    metrics = worker.update_actor(data).non_tensor_batch
    assert all(p.grad is None for p in worker.fsdp_module.parameters()), "memory that vLLM wants"
    return gradients, {k: float(v[0]) for k, v in metrics.items()}


def gradient_norm(module, _max_norm):
    """FSDP's own clips too, but in float32 alone."""
    square = torch.stack([p.grad.square().sum() for p in module.parameters() if p.grad is not None]).sum()
    if dist.get_world_size() > 1:
        dist.all_reduce(square)
    return square.sqrt()


def full_gradient(module):
    with FSDP.summon_full_params(module, with_grads=True):
        named = sorted(
            (name.replace("_fsdp_wrapped_module.", ""), p) for name, p in module.named_parameters()
        )
        return torch.cat([p.grad.flatten().double() for _, p in named])


def whole_weights(module):
    """All parameters, one after the other, by name. (FSDP puts no gradients together where some parameters
    have none.)
    """
    with FSDP.summon_full_params(module):
        named = sorted(
            (name.replace("_fsdp_wrapped_module.", ""), p) for name, p in module.named_parameters()
        )
        return torch.cat([p.detach().flatten().double() for _, p in named])
