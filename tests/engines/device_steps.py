"""A step of engine local on the CPU or on the simulated device, and what the CPU may wait for in each of its phases."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from simulated import on_device, simulated_device, synchronisations

from gmpo_vl.config import Config
from gmpo_vl.data.diagrams import make_examples
from gmpo_vl.data.types import Example
from gmpo_vl.engines.local.engine import LocalEngine
from gmpo_vl.engines.optim import build_optimizer
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.rollout.types import Group, Sampling


@dataclass
class Step:
    """What came out, and by phase what was waited for."""

    groups: list[Group] = field(default_factory=list)
    proof: Any = None
    metrics: dict[str, float] = field(default_factory=dict)
    waits: dict[str, Counter[str]] = field(default_factory=dict)


def take_step(config: Config, on_a_device: bool, tokens: int = 6) -> Step:
    """Two prompts with pictures and one without, three answers each: sampled, compared, scored, trained on."""
    engine = LocalEngine(config, load_processor(config.worker.actor.model.model_path))
    with simulated_device() if on_a_device else nullcontext():
        if on_a_device:
            on_device(engine.policy.model)
            engine.optimizer = build_optimizer(engine.policy.model.parameters(), config.worker.actor.optim)
            if engine.reference is not None:
                on_device(engine.reference)
        with engine.keeping_features():
            return _phases(engine, config, tokens)


def _phases(engine: LocalEngine, config: Config, tokens: int) -> Step:
    processor, step = engine.policy.processor, Step()
    examples = [*make_examples("train", 2, seed=0), Example("text", "What is 2 + 2?", "4")]
    if processor.image is None:
        examples = [Example(f"text {i}", f"What is {i} + 2?", "4") for i in range(3)]
    prompts = [encode_prompt(example, processor) for example in examples]

    def phase(name: str, run, *arguments) -> Any:
        with synchronisations() as step.waits[name]:
            return run(*arguments)

    sampling = Sampling(n=3, max_tokens=tokens, temperature=1.0, seed=5)
    step.groups = phase("generate", engine.generate, prompts, [0, 0, 0], sampling)
    step.proof = phase("proof", engine.prove_sharing, step.groups)
    found = phase("log_probs", engine.log_probs, step.groups)
    for group, log_probs in zip(step.groups, found.of):
        group.old_log_probs = log_probs
        group.advantages_G = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    step.metrics |= found.metrics()
    if not config.algorithm.disable_kl:
        references = phase("reference", engine.reference_log_probs, step.groups)
        for group, log_probs in zip(step.groups, references):
            group.ref_log_probs = log_probs
    step.metrics |= phase("update", engine.update, step.groups, 1e-3)
    return step
