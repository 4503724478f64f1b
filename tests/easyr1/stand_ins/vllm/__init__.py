"""Names that EasyR1 imports from vllm, and a record of how the engine is called, for machines without a GPU.

That vLLM 0.11 has them so is tested where it is installed (tests/vllm_cpu/test_stand_ins.py).
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class SamplingParams:
    """The fields of vllm 0.11's that EasyR1 and this project set."""

    n: int = 1
    max_tokens: int | None = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    detokenize: bool = True


@dataclass
class _Logprob:
    logprob: float


@dataclass
class CompletionOutput:
    index: int
    token_ids: list[int]
    logprobs: list[dict[int, _Logprob]]
    finish_reason: str


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    """Keeps what it was made with and asked; answers each prompt n times with the token 7, then 8."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs, self.asked = kwargs, []

    def sleep(self, level: int = 1) -> None:
        self.level = level

    def generate(self, prompts, sampling_params, lora_request=None, use_tqdm=True):
        self.asked.append((prompts, sampling_params))
        ends = ("stop", "length")
        return [
            RequestOutput(
                [
                    CompletionOutput(k, [7, 8], [{7: _Logprob(-0.5)}, {8: _Logprob(-0.25)}], ends[k % 2])
                    for k in range(s.n)
                ]
            )
            for s in sampling_params
        ]
