"""The tiny mixture of experts that plays CountDown with small numbers: 8 experts, 1 active, beside a shared one.

save_tiny_moe(folder)     random weights: where the warm-up starts
packaged_tiny_moe()       after its supervised warm-up (recipes/warm_up_countdown.py)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from gmpo_vl.models.moe import MoeSettings, build_moe
from gmpo_vl.models.tiny import TinySize, save_text_files, text_config, tiny_tokenizer

SIZE = TinySize(96, 3, 3, 1, 96, 0, 0, 0, 0, tied=True, initializer_range=0.02, rope_theta=10.0)

# One token for each sign, digit and tag; signs never stand together here, so that no two of them become one token.
TOKENIZER_TEXT = (
    "system\nuser\nassistant\n",
    "Make 1 of 2, 3.",
    "<answer>1</answer>",
)


def packaged_tiny_moe() -> Path:
    """The folder of the packaged model: 0.9 M parameters."""
    return Path(__file__).parent / "pretrained_moe"


def save_tiny_moe(folder: str | Path, seed: int = 0) -> Path:
    """Write it with random fp32 weights as a Hugging Face folder; returns the folder."""
    tokenizer = tiny_tokenizer(TOKENIZER_TEXT)
    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **text_config(SIZE, tokenizer)}
    with tempfile.TemporaryDirectory() as dense:
        save_text_files(Path(dense), config, tokenizer)
        return build_moe(dense, folder, MoeSettings(experts_from="random", seed=seed, router_std=0.02))
