"""Rollouts with vLLM (0.11, V1 engine). It caches prompts and pictures; every sample has its own seed.

vLLM is an optional package. On a GPU it answers faster than rollout/hf.py, from the same distribution. Single
samples differ, because it has its own random streams.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig

from gmpo_vl.models.geometry import QWEN_VL, SINCE_5
from gmpo_vl.models.loading import banned_ids, eos_ids, model_config
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.types import Group, Prompt, Response, Sampling

# Added to the logits of banned ids: their probability is 0 in float32. Two infinite biases would give NaN.
BAN = -1e4
MEMORY = 0.85  # share of the GPU that vLLM may take


def check_vllm(folder: Path) -> None:
    """Raise ValueError where vLLM cannot answer, before anything is loaded."""
    if find_spec("vllm") is None:
        raise ValueError(
            "vLLM is not installed here: `pip install vllm==0.11.0 'transformers<5'` into an environment "
            "with a GPU, or leave --backend out"
        )
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} is a LoRA adapter, which the vLLM backend does not load; "
            "`gmpo-vl export CHECKPOINT FOLDER` merges it into its model"
        )
    if (obstacle := model_obstacle(folder)) is not None:
        raise ValueError(f"{folder}: {obstacle}; leave --backend out")


def model_obstacle(folder: Path) -> str | None:
    """Why vLLM does not answer with a model here, in words; None where it does."""
    config = model_config(folder)
    kind = config.model_type
    if kind in SINCE_5:
        return f"a {kind!r} needs transformers 5, and vLLM 0.11 runs with 4"
    if hasattr(config, "vision_config") and kind not in QWEN_VL:
        return f"pictures of a {kind!r} are not prepared for vLLM here"
    return None


def engine_version() -> str:
    """Of the package: one that was built for CPUs says so there, and maybe nowhere else."""
    return version("vllm")


def load_engine(
    folder: Path, processor: Processor, max_tokens: int, max_images: int, tensor_parallel: int = 1
) -> Any:
    """vLLM's engine for a model folder. max_tokens: of a prompt and its answer together. max_images: of one
    prompt. tensor_parallel: GPUs that share one copy of the model."""
    from vllm import LLM

    positions = model_config(folder).get_text_config().max_position_embeddings
    pictures = {}
    if processor.image is not None:
        # Pictures come resized. These limits leave them so, and let vLLM plan its memory.
        limits = {"min_pixels": processor.image.factor**2, "max_pixels": processor.image.max_pixels}
        pictures = {"limit_mm_per_prompt": {"image": max_images}, "mm_processor_kwargs": limits}
    return LLM(
        model=str(folder),
        trust_remote_code=False,
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        max_model_len=min(max_tokens, positions),
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        gpu_memory_utilization=MEMORY,
        disable_log_stats=True,
        tensor_parallel_size=tensor_parallel,
        distributed_executor_backend="mp" if tensor_parallel > 1 else None,  # also inside a Ray actor
        **pictures,
    )


def generate(
    engine: Any,
    processor: Processor,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    occasions: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Group]:
    """As hf.generate: G = `sampling.n` responses to every prompt, in order. `progress` is called once.

    Every sample is a request with the seed that hf.generate would use. The samples of a prompt share its
    cache and picture. Log-probs are those of the distribution drawn from, so after top-k and top-p.
    """
    occasions = occasions if occasions is not None else [0] * len(prompts)
    seeds = [
        sample_seed(sampling.seed, prompt.example.id, when, k)
        for prompt, when in zip(prompts, occasions)
        for k in range(sampling.n)
    ]
    model = engine.llm_engine.model_config
    banned = banned_ids(model.hf_config)
    ends = eos_ids(GenerationConfig(**model.try_get_generation_config()), processor.tokenizer)
    inputs = [engine_input(prompt, processor) for prompt in prompts]
    completions = engine.generate(
        [given for given in inputs for _ in range(sampling.n)],
        [sampling_params(sampling, seed, 1, banned, ends) for seed in seeds],
        use_tqdm=False,
    )
    responses = [
        response_of(completion.outputs[0], processor, seed, ends)
        for completion, seed in zip(completions, seeds)
    ]
    if progress is not None:
        progress(len(prompts))
    return [
        Group(f"{prompt.example.id}@{when}", prompt, responses[i * sampling.n : (i + 1) * sampling.n])
        for i, (prompt, when) in enumerate(zip(prompts, occasions))
    ]


def engine_input(prompt: Prompt, processor: Processor) -> dict[str, Any]:
    """Ids with one image token per picture, which vLLM expands itself, and the resized pictures."""
    ids = prompt.ids_P
    if processor.image_token_id is not None:
        is_image_P = ids == processor.image_token_id
        ids = ids[~(is_image_P & is_image_P.roll(1))]  # the first of each run: a start token stands before it
    given: dict[str, Any] = {"prompt_token_ids": ids.tolist()}
    if prompt.images:
        given["multi_modal_data"] = {"image": [Image.fromarray(image.numpy()) for image in prompt.images]}
    return given


def sampling_params(sampling: Sampling, seed: int, n: int, banned: Sequence[int], ends: Sequence[int]) -> Any:
    """vLLM's settings for n samples of a prompt, the first with this seed, with the log-prob of each token.

    ends: token ids that end a response; without any it runs to the limit. vLLM itself knows the tokenizer's
    end token only, and where n > 1 forgets the others that the generation config names.
    """
    from vllm import SamplingParams

    return SamplingParams(
        n=n,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=seed,
        logprobs=0,  # of the token drawn alone
        logit_bias=dict.fromkeys(banned, BAN) or None,
        stop_token_ids=list(ends),
        ignore_eos=not ends,
        detokenize=False,
    )


def response_of(output: Any, processor: Processor, seed: int, ends: Sequence[int]) -> Response:
    """One of vLLM's samples, drawn with this seed. An end token in the last place ends it, too."""
    ids = list(output.token_ids)
    log_probs = [at[token].logprob for token, at in zip(ids, output.logprobs)]
    ids_T = torch.tensor(ids, dtype=torch.int64)
    log_probs_T = torch.tensor(log_probs, dtype=torch.float32)
    finished = output.finish_reason == "stop" or ids[-1] in ends
    return Response(ids_T, log_probs_T, processor.decode(ids_T), finished, seed)
