"""EasyR1's vLLM rollout with bans, seeds, log-probs and every end token (vLLM 0.11's V1 engine).

EasyR1 bans the image token alone, draws every prompt of every step from the same few seeds, and asks for no
log-probs.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from verl.protocol import DataProto
from verl.workers.rollout import vllm_rollout_spmd
from verl.workers.rollout.vllm_rollout_spmd import vLLMRollout

from gmpo_vl.engines.easyr1.limits import LORA_RANKS
from gmpo_vl.engines.easyr1.serialisation import answers_to_proto, asked
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout.seeds import sample_seed
from gmpo_vl.rollout.vllm import engine_input, response_of, sampling_params
from gmpo_vl.types import Sampling


class GMPOvLLMRollout(vLLMRollout):
    """Answers prompts (serialisation.py) with EasyR1's vLLM engine."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        adapters = kwargs.get("lora_kwargs")
        if adapters:  # vLLM makes room for some ranks only
            rank = next(room for room in LORA_RANKS if room >= adapters["max_lora_rank"])
            kwargs["lora_kwargs"] = {**adapters, "max_lora_rank": rank}
        # EasyR1 hands on no engine option that it does not know. `processed`: after bias, temperature, top-k
        # and top-p, which is the distribution that the tokens come from.
        llm = vllm_rollout_spmd.LLM
        vllm_rollout_spmd.LLM = functools.partial(llm, logprobs_mode="processed_logprobs")
        try:
            super().__init__(*args, **kwargs)
        finally:
            vllm_rollout_spmd.LLM = llm

    def begin(self, processor: Processor, banned_ids: Sequence[int], ends: Sequence[int]) -> None:
        """What the worker knows only after the model is built. ends: as of `sampling_params`."""
        self.processor, self.banned_ids, self.ends = processor, tuple(banned_ids), tuple(ends)

    @torch.no_grad()
    def generate_sequences(self, prompts: DataProto) -> DataProto:
        wanted, positions, sampling = asked(prompts)
        seeds = [first_seed(sampling, prompt.example.id, at) for prompt, at in zip(wanted, positions)]
        completions = self.inference_engine.generate(
            prompts=[engine_input(prompt, self.processor) for prompt in wanted],
            sampling_params=[
                sampling_params(sampling, s, sampling.n, self.banned_ids, self.ends) for s in seeds
            ],
            lora_request=self._lora_requests(len(wanted)),
            use_tqdm=self.use_tqdm,
        )
        answers = [
            [response_of(x, self.processor, seed + x.index, self.ends) for x in completion.outputs]
            for seed, completion in zip(seeds, completions)
        ]
        return answers_to_proto(answers)

    def _lora_requests(self, count: int) -> list[Any] | None:
        """The adapter that EasyR1's weight sync has put into the engine, for every prompt."""
        loaded = list(self.inference_engine.llm_engine.list_loras()) if self.lora_kwargs else []
        if not loaded:
            return None
        name, number = str(loaded[0]), loaded[0]
        request = vllm_rollout_spmd.LoRARequest(lora_name=name, lora_int_id=number, lora_path="in-memory")
        return [request] * count


def first_seed(sampling: Sampling, prompt_id: str, position: int) -> int:
    """The seed of a prompt's first sample, of 62 bits: vLLM counts on from it for the others."""
    return sample_seed(sampling.seed, prompt_id, position, 0) >> 1
