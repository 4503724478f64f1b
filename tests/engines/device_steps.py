"""A step of engine local on the CPU or on the simulated device, and how often the CPU may wait for the device
in each phase.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from simulated import IN_A_LAYER, on_device, simulated_device, synchronisations

from gmpo_vl.config import Config
from gmpo_vl.engines.local.engine import LocalEngine
from gmpo_vl.engines.policy import build_optimizer
from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example, Group, Prompt, Sampling

# Waits in the project's own code: of a phase, and of each forward of the decoder in it (while sampling: of
# each token).
BUDGET = {
    "generate": (26, 5),
    "parity": (10, 6),
    "log_probs": (6, 9),
    "reference": (6, 9),
    "update": (20, 13),
}
LOOK = 7  # and of each call of the ViT: its windows, once for each kind of layer
# In transformers' code: of each call of the ViT, where 4.57 asks for every picture's size; a forward looks at
# its mask.
THEIR_LOOK = 12 if TRANSFORMERS_5 else 50
# In a layer nothing is waited for, but where the first one makes the layout for all, and a cache its room.
MADE_ONCE = ("layout.py varlen", "layout.py to", "cache_utils.py lazy_initialization")


@dataclass
class Step:
    """What came out; by phase what was waited for, and how often decoder and ViT were called."""

    groups: list[Group] = field(default_factory=list)
    parity: Any = None
    metrics: dict[str, float] = field(default_factory=dict)
    waits: dict[str, Counter[str]] = field(default_factory=dict)
    forwards: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)

    def too_many_waits(self) -> list[str]:
        """What is over the budget, in words."""
        found = []
        for phase, waits in self.waits.items():
            (fixed, each), forwards, looks = BUDGET[phase], self.forwards[phase], self.looks[phase]
            allowed = {
                "gmpo_vl": fixed + each * forwards + LOOK * looks,
                "transformers": THEIR_LOOK * looks + forwards,
            }
            for code, most in allowed.items():
                places = {place: n for place, n in waits.items() if place.startswith(code)}
                if sum(places.values()) > most:
                    found.append(f"{phase}: {sum(places.values())} waits, {most} are allowed: {places}")
            in_layers = [place for place in waits if place.startswith(IN_A_LAYER)]
            found += [f"{phase}: {place}" for place in in_layers if not any(x in place for x in MADE_ONCE)]
        return found


def prompts_of(processor: Processor) -> list[Prompt]:
    """Two with pictures and one without; three without for a model that sees none."""
    examples = [*make_examples("train", 2, seed=0), Example("text", "What is 2 + 2?", "4")]
    if processor.image is None:
        examples = [Example(f"text {i}", f"What is {i} + 2?", "4") for i in range(3)]
    return [encode_prompt(example, processor) for example in examples]


def take_step(config: Config, on_a_device: bool, given: Sequence[Group] = (), tokens: int = 4) -> Step:
    """Three prompts, three answers each: sampled, checked, scored, trained on. given: groups to train on
    instead.
    """
    engine = LocalEngine(config, load_processor(config.worker.actor.model.model_path))
    with simulated_device() if on_a_device else nullcontext():
        if on_a_device:
            on_device(engine.policy.model)
            engine.optimizer = build_optimizer(engine.policy.model.parameters(), config.worker.actor.optim)
            if engine.reference is not None:
                on_device(engine.reference)
        with engine.keeping_features():
            return _phases(engine, config, given, tokens)


def _phases(engine: LocalEngine, config: Config, given: Sequence[Group], tokens: int) -> Step:
    step, running = Step(), ""
    for model in (engine.policy.model, engine.reference):
        if model is not None:
            inner = unwrap(model)
            language_model(inner).register_forward_pre_hook(lambda *_: step.forwards.update([running]))
            if hasattr(inner.model, "visual"):
                inner.model.visual.register_forward_pre_hook(lambda *_: step.looks.update([running]))

    def phase(name: str, run, *arguments) -> Any:
        nonlocal running
        running = name
        with synchronisations() as step.waits[name]:
            return run(*arguments)

    sampling = Sampling(n=3, max_tokens=tokens, temperature=1.0, seed=5, with_entropy=True)
    step.groups = phase("generate", engine.generate, prompts_of(engine.policy.processor), [0] * 3, sampling)
    if given:
        step.groups = [Group(group.key, group.prompt, group.responses) for group in given]
    step.parity = phase("parity", engine.check_parity, step.groups)
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
