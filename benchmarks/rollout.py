"""Rollouts against transformers' `generate`, with the same weights, prompt and number of samples.

    python benchmarks/rollout.py [--prompts 1] [--prompt 1500] [--response 128] [--group 8]
                                 [--as-it-comes] [--json]

Both sample at temperature 1 and no row ends before its full length. `generate` is called as its documentation
says: all prompts in one batch, `num_return_sequences` samples each, with transformers' own attention. Medians
of interleaved runs (on a CPU: CPU seconds of this process).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from measure import keep_freed_memory, seconds_of
from step_models import CONFIGS, FAMILY, IMAGE, IMAGE_PAD, random_group, random_model, versions

from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import use_group_attention
from gmpo_vl.rollout.hf import generate
from gmpo_vl.types import Prompt, Sampling


class Tokens:
    """Stands in for a tokenizer: responses are random, nobody reads them."""

    pad_token_id = 0
    eos_token_id = 0

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return ""


def theirs(model: Any, prompts: list[Prompt], length: int, group: int) -> torch.Tensor:
    """(prompts x group, length) sampled ids. prompts: of one length, so that nothing is padded."""
    ids_BP = torch.stack([p.ids_P for p in prompts]).to(model.device)
    inputs: dict[str, Any] = {
        "input_ids": ids_BP,
        "attention_mask": torch.ones_like(ids_BP),
        "pixel_values": torch.cat([make_patches(x, IMAGE) for p in prompts for x in p.images]).to(
            model.dtype
        ),
        "image_grid_thw": torch.cat([p.image_grid_thw for p in prompts]).to(model.device),
    }
    if TRANSFORMERS_5:
        inputs["mm_token_type_ids"] = (ids_BP == IMAGE_PAD).int()
    model.set_attn_implementation("sdpa")  # transformers' own
    with torch.no_grad():
        out = model.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            num_return_sequences=group,
            min_new_tokens=length,
            max_new_tokens=length,
        )
    use_group_attention(model)
    assert out.shape == (len(prompts) * group, ids_BP.shape[1] + length)
    return out[:, ids_BP.shape[1] :]


def ours(model: Any, processor: Processor, prompts: list[Prompt], length: int, group: int) -> None:
    answered = generate(model, processor, prompts, Sampling(n=group, max_tokens=length))
    assert [len(r.ids_T) for g in answered for r in g.responses] == [length] * group * len(prompts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=1, help="prompts sampled together (default 1)")
    parser.add_argument("--prompt", type=int, default=1500, help="tokens, picture included (default 1500)")
    parser.add_argument("--response", type=int, default=128, help="tokens of every sample (default 128)")
    parser.add_argument("--group", type=int, default=8, help="samples of the prompt (default 8)")
    parser.add_argument("--model-config", choices=CONFIGS, default="scaled_3b")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--as-it-comes", action="store_true", help="on a CPU freed memory goes back, as in a run, for both"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cpu" and not options.as_it_comes:
        keep_freed_memory()
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = random_model(options.model_config, device, dtype).eval()
    model.generation_config.eos_token_id = None
    # The padding token must never be drawn as an end: no id ends a response here.
    processor = Processor(Tokens(), "", FAMILY, Path())
    processor.tokenizer.eos_token_id = -1
    groups = [
        random_group(options.model_config, options.prompt, [1], device, seed=k)[0]
        for k in range(options.prompts)
    ]
    prompts, length, n = [group.prompt for group in groups], options.response, options.group

    def run_theirs() -> None:
        theirs(model, prompts, length, n)

    def run_ours() -> None:
        ours(model, processor, prompts, length, n)

    run_theirs()
    run_ours()
    times = [(seconds_of(run_theirs, device), seconds_of(run_ours, device)) for _ in range(options.repeats)]
    found = {
        "generate_seconds": round(statistics.median(t for t, _ in times), 3),
        "generate_tokens_per_second": round(
            n * length * len(prompts) / statistics.median(t for t, _ in times)
        ),
        "ours_seconds": round(statistics.median(t for _, t in times), 3),
        "ours_tokens_per_second": round(n * length * len(prompts) / statistics.median(t for _, t in times)),
        "speedup_vs_generate": round(statistics.median(a / b for a, b in times), 2),
        "speedup_lowest": round(min(a / b for a, b in times), 2),
        "speedup_highest": round(max(a / b for a, b in times), 2),
    }
    asked = {
        "prompts": len(prompts),
        "prompt": options.prompt,
        "response": length,
        "group": n,
        "model": options.model_config,
    }
    if options.json:
        print(json.dumps({**asked, **found, **versions(device)}))
        return
    for key, value in {**asked, **found, **versions(device)}.items():
        print(f"{key:22} {value}")


if __name__ == "__main__":
    main()
