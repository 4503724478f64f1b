"""Steps at worst-case lengths before a run: do they fit, and how long do they take? (`gmpo-vl doctor
--rehearse`)

The longest prompts of the data, every response as long as it may get. Nothing is written. Scores are made up
so that every group has a gradient; no reward is asked.
"""

from __future__ import annotations

import gc
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from gmpo_vl.config import Config, load_config
from gmpo_vl.engines.advantages import fill_advantages
from gmpo_vl.engines.local.engine import LocalEngine
from gmpo_vl.models.allocator import release_freed_memory
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.processes import command_of
from gmpo_vl.setup import load_configured_processor, load_split, sampling_of
from gmpo_vl.sizing.budget import with_fitting_tokens
from gmpo_vl.sizing.memory import gib
from gmpo_vl.types import Group, Prompt, Sampling

WARM_UP_TOKENS = 4


@dataclass(frozen=True)
class Rehearsal:
    """What the steps took.

    peaks: {phase: bytes} at the highest point of all steps: of tensors on a GPU, on a CPU of resident memory
    above the process (tensors, and what the C library holds between them); {} where the system cannot tell.
    process: bytes of host memory that the process and its libraries take besides. seconds: {phase: of the
    last step}.
    """

    steps: int
    prompt: int  # tokens of the longest
    response: int
    peaks: dict[str, float]
    process: float
    seconds: dict[str, float]


def rehearse_apart(config: Config, config_file: str, overrides: Sequence[str]) -> Finding:
    """Three steps in a process of their own, so that the doctor outlives it where memory runs out."""
    if config.engine != "local":
        what = "only engine local is rehearsed; recipes/ say how to try easyr1 for a few steps"
        return Finding("note", "rehearsal", what)
    if config.environment.name is not None:
        what = "not tried: how many turns games take is not known before; trainer.max_steps=1 shows a step"
        return Finding("note", "rehearsal", what)
    command = command_of("gmpo_vl.preflight.rehearsal", config_file, *overrides)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        what, change = (
            "the system ended it: no memory left",
            "see the memory estimate's parts, the largest first",
        )
        return Finding("error", "rehearsal", what, "", change)
    if done.returncode != 0:
        what = done.stderr.strip()[-2000:] or f"exit code {done.returncode}"
        return Finding("error", "rehearsal", what, "", "a run would end like this")
    found = Rehearsal(**json.loads(done.stdout.splitlines()[-1]))
    phases = ", ".join(f"{name} {gib(count)}" for name, count in found.peaks.items()) or "not known here"
    seconds = ", ".join(f"{name} {count:.1f} s" for name, count in found.seconds.items())
    return Finding(
        "ok",
        "rehearsal",
        f"{found.steps} steps with prompts of {found.prompt:,} and responses of {found.response:,} tokens\n"
        f"peak: {phases}; the process itself takes {gib(found.process)} besides\n"
        f"last step: {seconds}",
    )


def rehearse(config: Config, steps: int = 3) -> Rehearsal:
    """Load the model and take steps at worst-case lengths, as a run would. Raises what a run would raise."""
    processor = load_configured_processor(config)
    prompts = load_split(config, config.data.train_files, processor)
    config = with_fitting_tokens(config, prompts).config  # as a run does
    engine = LocalEngine(config, processor)
    longest = _longest(prompts, config.data.rollout_batch_size)
    meter = Meter()
    # What libraries set up when they are first used is the process's, not a step's.
    rehearse_step(Meter(), engine, prompts.encode(longest[-1:]), 0, WARM_UP_TOKENS)
    meter.leave_out_the_process(_held(engine))
    for step in range(steps):
        rehearse_step(meter, engine, prompts.encode(longest), step, config.data.max_response_length)
    return Rehearsal(
        steps,
        max(prompts.lengths[i] for i in longest),
        config.data.max_response_length,
        meter.peaks,
        meter.process,
        meter.seconds,
    )


def rehearse_step(
    meter: Meter, engine: LocalEngine, prompts: Sequence[Prompt], step: int, length: int
) -> tuple[list[Group], dict[str, float]]:
    """A step with answers of `length` tokens and made-up scores: its groups and the update's metrics.

    The meter measures its phases `generate`, `log_probs` and `update`.
    """
    config = engine.config
    with meter.phase("generate"):
        sampling = replace(sampling_of(config), seed=step, max_tokens=length)
        groups = _full_length_groups(engine, prompts, sampling)
    weights = config.algorithm.reward_weights or {"overall": 1.0}
    made_up = [{part: math.copysign(k % 2, weight) for part, weight in weights.items()} for k in range(2)]
    for group in groups:
        group.scores = [made_up[k % 2] for k in range(len(group.responses))]
    fill_advantages(groups, config.algorithm)
    with meter.phase("log_probs"):
        for group, log_probs in zip(groups, engine.log_probs(groups).of):
            group.old_log_probs = log_probs
    with meter.phase("update"):
        noise_step = step if config.trainer.grad_noise_freq > 0 else None  # such a step takes most
        metrics = engine.update(groups, config.worker.actor.optim.lr, noise_step=noise_step)
    if "memory/device_peak" in metrics:  # the engine asked the GPU for its peak, and made it start again
        meter.peaks["update"] = max(meter.peaks["update"], metrics["memory/device_peak"] * 2**30)
    return groups, metrics


def _held(engine: LocalEngine) -> int:
    """Bytes of parameters, gradients and moments."""
    parameters = list(engine.policy.model.parameters())
    tensors = [*parameters, *(p.grad for p in parameters if p.grad is not None)]
    tensors += [
        x for state in engine.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)
    ]
    return sum({x.data_ptr(): x.numel() * x.element_size() for x in tensors}.values())


def _longest(prompts: PromptSet, count: int) -> list[int]:
    """Indices of the `count` longest prompts; from the start again where there are fewer."""
    order = sorted(range(len(prompts)), key=lambda i: -prompts.lengths[i])
    return [order[k % len(order)] for k in range(count)]


def _full_length_groups(engine: LocalEngine, prompts: Sequence[Prompt], sampling: Sampling) -> list[Group]:
    """Rollouts in which no token ends a response."""
    settings = unwrap(engine.policy.model).generation_config
    assert settings is not None
    before, settings.eos_token_id = settings.eos_token_id, [-1]
    try:
        return engine.generate(prompts, range(len(prompts)), sampling)
    finally:
        settings.eos_token_id = before


class Meter:
    """Seconds and peak memory of phases. On a CPU: resident memory, on Linux."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.process = 0.0

    def leave_out_the_process(self, held: int) -> None:
        """What is resident now is the process, but for `held` bytes of tensors."""
        import psutil

        gc.collect()
        release_freed_memory()
        self.process = float(psutil.Process().memory_info().rss - (0 if torch.cuda.is_available() else held))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._restart()
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = time.perf_counter() - start
        peak = self._peak()
        if peak is not None:
            self.peaks[name] = max(self.peaks.get(name, 0.0), peak)

    def _restart(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif Path("/proc/self/clear_refs").exists():
            release_freed_memory()  # what the phase before it left is not this one's
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts again

    def _peak(self) -> float | None:
        if torch.cuda.is_available():
            return float(torch.cuda.max_memory_allocated())
        status = Path("/proc/self/status")
        if not status.exists():
            return None
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024.0 - self.process


def main() -> None:
    """`python -m gmpo_vl.preflight.rehearsal CONFIG a.b=c ...`: the result as a line of JSON."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config_file, *overrides = sys.argv[1:]
    print(json.dumps(asdict(rehearse(load_config(config_file, overrides)))))


if __name__ == "__main__":
    main()
