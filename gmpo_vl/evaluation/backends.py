"""What answers the questions: a function of prompts and sampling, the same for every backend.

A template may end an answer at a string, and a protocol limits prompt and answer together. Both are applied
to what comes out (`cut_groups`). That changes no sample, because each has its own random stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch

from gmpo_vl.models.loading import load_for_inference
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout import vllm
from gmpo_vl.rollout.hf import GenerateOptions, generate
from gmpo_vl.storage.manifest import check_model_files
from gmpo_vl.types import Group, Prompt, Response, Sampling

BACKENDS = ("transformers", "vllm")
# A chunk has at most so many samples with vLLM, which has a few hundred under way at a time. At a chunk's end
# most of the GPU waits for the last of them; a kill loses a chunk.
VLLM_SAMPLES = 4096
VLLM_QUESTIONS = 512  # their pictures are in memory together, up to 13 MB each
# Tokens that the caches of prompts running together may hold. Another number would change the last digits of
# float32.
MAX_CACHED_TOKENS = 65_536


class Backend(Protocol):
    """Answers prompts: one group each, in their order. `progress` is told how many prompts are answered."""

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, progress: Callable[[int], None] | None
    ) -> list[Group]: ...


@dataclass(frozen=True)
class BackendChoice:
    """name: one of BACKENDS. tensor_parallel: GPUs that share one copy of the model, with vLLM. copies: of
    the model, that answer side by side."""

    name: str = "transformers"
    tensor_parallel: int = 1
    copies: int = 1


def transformers_backend(model: torch.nn.Module, processor: Processor) -> Backend:
    """gmpo_vl's own sampler: each prompt prefilled once for its n answers."""

    def answer(
        prompts: Sequence[Prompt], sampling: Sampling, *, progress: Callable[[int], None] | None
    ) -> list[Group]:
        options = GenerateOptions(MAX_CACHED_TOKENS, progress=progress)
        return generate(model, processor, prompts, sampling, options=options)

    return answer


def load_backend(
    choice: BackendChoice, folder: Path, processor: Processor, max_tokens: int, max_images: int
) -> Backend:
    """The model on the GPU in bfloat16, or on the CPU in float32, behind the backend that was chosen.

    max_tokens: of a prompt and its answer together; max_images: of one prompt (for vLLM's memory).
    """
    if choice.name == "vllm":
        check_model_files(folder)
        engine = vllm.load_engine(folder, processor, max_tokens, max_images, choice.tensor_parallel)
        return partial(vllm.generate, engine, processor)
    return transformers_backend(load_for_inference(folder), processor)


def check_backend(choice: BackendChoice, folder: Path) -> None:
    """Raise ValueError for a backend that is unknown, or cannot answer here."""
    if choice.name not in BACKENDS:
        raise ValueError(f"--backend {choice.name}: it is one of {', '.join(BACKENDS)}, auto")
    if choice.tensor_parallel != 1 and (choice.name != "vllm" or choice.tensor_parallel < 1):
        raise ValueError(
            f"--tensor-parallel {choice.tensor_parallel}: how many GPUs share the model, "
            "with --backend vllm alone"
        )
    if choice.name == "vllm":
        vllm.check_vllm(folder)


def backend_here(folder: Path) -> tuple[str, str]:
    """The faster backend that can answer here, and why it is that one, in words."""
    if find_spec("vllm") is None:
        return "transformers", "vLLM is not installed here"
    if not torch.cuda.is_available():
        return "transformers", "vLLM is installed, but there is no GPU"
    if (folder / "adapter_config.json").is_file():
        return "transformers", "the model is a LoRA adapter, which vLLM does not load here"
    if "cpu" in vllm.engine_version():
        return "transformers", f"vLLM {vllm.engine_version()} was built for CPUs"
    if (obstacle := vllm.model_obstacle(folder)) is not None:
        return "transformers", obstacle
    return "vllm", f"vLLM {vllm.engine_version()} is installed, and there is a GPU"


def chunk_of(choice: BackendChoice, questions: int, n: int) -> int | None:
    """Questions of a chunk for vLLM, which plans by itself what runs together; None: the protocol's number.

    As few chunks of one size as VLLM_SAMPLES and VLLM_QUESTIONS allow, as many for each copy of the model.
    """
    if choice.name != "vllm":
        return None
    most = min(VLLM_QUESTIONS, max(1, VLLM_SAMPLES // n))
    chunks_each = -(-questions // (most * choice.copies))
    return -(-questions // (chunks_each * choice.copies))


def backend_facts(choice: BackendChoice) -> dict[str, str | int]:
    """What of the backend decides the samples besides the protocol, for the plan of a run."""
    cuda = torch.cuda.is_available()
    facts: dict[str, str | int] = {
        "name": choice.name,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "dtype": "bfloat16" if cuda else "float32",
    }
    if choice.name == "vllm":
        shared = {"tensor_parallel": choice.tensor_parallel} if choice.tensor_parallel > 1 else {}
        return {**facts, "version": vllm.engine_version(), **shared}
    return {**facts, "max_cached_tokens": MAX_CACHED_TOKENS}


def cut_groups(
    groups: list[Group], decode: Callable[[torch.Tensor], str], max_model_len: int | None, stop: str | None
) -> list[Group]:
    """Every response as if sampling had ended at the first `stop` (kept), or at `max_model_len`."""
    if max_model_len is None and stop is None:
        return groups
    shortened = []
    for group in groups:
        room = None if max_model_len is None else max_model_len - len(group.prompt.ids_P)
        shortened.append(replace(group, responses=[cut(r, decode, room, stop) for r in group.responses]))
    return shortened


def cut(
    response: Response, decode: Callable[[torch.Tensor], str], max_tokens: int | None, stop: str | None
) -> Response:
    """The response's first `max_tokens` tokens, and of those the shortest beginning that holds `stop`."""
    ids_T, text, finished = response.ids_T, response.text, response.finished
    if max_tokens is not None and len(ids_T) > max_tokens:
        ids_T, finished = ids_T[:max_tokens], False
        text = decode(ids_T)
    if stop is not None and stop in text:
        low, high = 1, len(ids_T)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if stop in decode(ids_T[:middle]) else (middle + 1, high)
        ids_T, finished = ids_T[:low], True
        text = text[: text.index(stop) + len(stop)]
    return replace(
        response,
        ids_T=ids_T,
        rollout_log_probs_T=response.rollout_log_probs_T[: len(ids_T)],
        text=text,
        finished=finished,
    )
