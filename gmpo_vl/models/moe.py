"""A mixture of experts made of a dense Qwen2 or Qwen2.5: standard Qwen2-MoE files that transformers, EasyR1
and vLLM read.

    build_moe("models/qwen2_5_0_5b", "models/qwen2_5_moe", MoeSettings())        8 experts, 1 active
    save_tiny_moe(folder)     random weights: where the tiny mixture's warm-up on CountDown starts
    packaged_tiny_moe()       after that warm-up (recipes/warm_up_countdown.py)

Every layer's MLP becomes a shared expert for all tokens, and E experts, of which the router picks k for each
token:

    MLP(x)  ->  sigmoid(g x) shared(x) + sum over the k chosen of p_e(x) expert_e(x)

The shared expert is the dense MLP. Its gate g starts at 0, so its output counts half. With `experts_from:
copies` every expert is the dense MLP with noise, scaled so that the experts add the other half while the
router has no preference: the mixture starts out as the dense model. With `random` experts start as in an
untrained model.

`norm_topk_prob` is off: normalised over one chosen expert the router's probability would always be 1, and the
router would never get a gradient.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gmpo_vl.models.compat import with_old_names
from gmpo_vl.models.loading import copy_without_weights
from gmpo_vl.models.tiny import TinySize, random_model, save_text_files, text_config, tiny_tokenizer
from gmpo_vl.storage.files import write_json

TINY = TinySize(96, 3, 3, 1, 96, 0, 0, 0, 0, tied=True, initializer_range=0.02, rope_theta=10.0)
# One token for each sign, digit and tag: no two signs stand together, so none merge into one token.
TOKENIZER_TEXT = ("system\nuser\nassistant\n", "Make 1 of 2, 3.", "<answer>1</answer>")


@dataclass(frozen=True)
class MoeSettings:
    """experts: of a layer, `active` of them for each token; copies of the dense MLP, or random.

    expert_width: of `random` experts, None: the dense MLP's. noise: standard deviation of the noise on a
    copy, as a share of the copied matrix's own. router_std: standard deviation of the router's weights.
    """

    experts: int = 8
    active: int = 1
    experts_from: Literal["copies", "random"] = "copies"
    expert_width: int | None = None
    noise: float = 0.01
    router_std: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.experts:
            raise ValueError(
                f"{self.active} of {self.experts} experts cannot be active: 1 to {self.experts} can"
            )
        if self.experts_from == "copies" and self.expert_width is not None:
            raise ValueError(
                "expert_width: copies of the dense MLP have its width; experts_from random takes another"
            )
        if self.expert_width is not None and self.expert_width < 1:
            raise ValueError(f"expert_width is {self.expert_width}, but must be at least 1")
        if min(self.noise, self.router_std) < 0:
            raise ValueError(f"noise {self.noise} and router_std {self.router_std} are deviations: 0 or more")


def moe_config(dense: dict[str, Any], settings: MoeSettings) -> dict[str, Any]:
    """`config.json` of the mixture, from the dense model's. Raises ValueError where that is no Qwen2."""
    if dense.get("model_type") != "qwen2":
        raise ValueError(
            f"model_type {dense.get('model_type')!r}: a Qwen2-MoE is made of a dense qwen2 (Qwen2, Qwen2.5) "
            "only"
        )
    return {
        **dense,
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": settings.experts,
        "num_experts_per_tok": settings.active,
        "moe_intermediate_size": settings.expert_width or dense["intermediate_size"],
        "shared_expert_intermediate_size": dense["intermediate_size"],
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.0,
    }


def moe_state(
    dense: dict[str, torch.Tensor], config: dict[str, Any], settings: MoeSettings
) -> Iterator[tuple[str, torch.Tensor]]:
    """The mixture's tensors from the dense model's, under the names of published Qwen2-MoE checkpoints."""
    generator = torch.Generator().manual_seed(settings.seed)
    for name, tensor in dense.items():
        layer, _, part = name.partition(".mlp.")
        if not part:
            yield name, tensor
            continue
        kind = part.removesuffix(".weight")
        yield f"{layer}.mlp.shared_expert.{part}", tensor
        for e in range(settings.experts):
            yield f"{layer}.mlp.experts.{e}.{part}", _expert(tensor, kind, config, settings, generator)
        if kind == "down_proj":
            hidden = tensor.shape[0]
            router = torch.randn((settings.experts, hidden), generator=generator) * settings.router_std
            yield f"{layer}.mlp.gate.weight", router.to(tensor.dtype)
            yield f"{layer}.mlp.shared_expert_gate.weight", torch.zeros((1, hidden), dtype=tensor.dtype)


def _expert(
    dense: torch.Tensor, kind: str, config: dict[str, Any], settings: MoeSettings, generator: torch.Generator
) -> torch.Tensor:
    """One matrix of one expert."""
    if settings.experts_from == "random":
        width, hidden = config["moe_intermediate_size"], config["hidden_size"]
        shape = (hidden, width) if kind == "down_proj" else (width, hidden)
        return (torch.randn(shape, generator=generator) * config["initializer_range"]).to(dense.dtype)
    copy = dense.float()
    copy = copy + settings.noise * copy.std() * torch.randn(copy.shape, generator=generator)
    # A router without a preference weighs each of the k chosen experts with 1/E: together they add a half.
    return (copy * (settings.experts / (2 * settings.active) if kind == "down_proj" else 1.0)).to(dense.dtype)


def build_moe(
    dense: str | Path, out: str | Path, settings: MoeSettings | None = None, **config_changes: Any
) -> Path:
    """Write the mixture of a dense model's folder as a Hugging Face folder; returns it. Everything in memory.

    A folder without weights (config.json and tokenizer) gives an untrained mixture; only there config_changes
    may replace values of its config.json (hidden_size=512). The tokenizer's files are copied. Raises
    ValueError for any other model than a Qwen2, FileExistsError where `out` has files.
    """
    from huggingface_hub import save_torch_state_dict

    settings = settings or MoeSettings()
    dense, out = Path(dense), Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is there and not empty; name another folder")
    config = with_old_names(json.loads((dense / "config.json").read_text(encoding="utf-8")))
    config.pop("rope_parameters", None)  # rope_theta and rope_scaling say the same, and may change
    files = sorted(dense.glob("*.safetensors"))
    if files and config_changes:
        raise ValueError(
            f"{', '.join(config_changes)}: {dense} has weights, which have the shapes that its config.json "
            "says"
        )
    if unknown := sorted(config_changes.keys() - config.keys()):
        raise ValueError(f"{', '.join(unknown)}: not in {dense / 'config.json'}, whose keys can change")
    config |= config_changes
    mixture = moe_config(config, settings)
    state = _read(files) if files else _untrained(config, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(dict(moe_state(state, mixture, settings)), out)
    write_json(out / "config.json", mixture)
    copy_without_weights(dense, out)
    return out


def _read(files: list[Path]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _untrained(config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """A dense model's random float32 weights."""
    named = {**config, "architectures": ["Qwen2ForCausalLM"]}
    state = random_model(named, config["initializer_range"], seed).state_dict()
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    return state


def packaged_tiny_moe() -> Path:
    """The folder of the packaged tiny mixture: 0.9 M parameters, 8 experts, 1 active, beside a shared one."""
    return Path(__file__).parent / "pretrained_moe"


def save_tiny_moe(folder: str | Path, seed: int = 0) -> Path:
    """Write the tiny mixture with random fp32 weights as a Hugging Face folder; returns the folder."""
    tokenizer = tiny_tokenizer(TOKENIZER_TEXT)
    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **text_config(TINY, tokenizer)}
    with tempfile.TemporaryDirectory() as dense:
        save_text_files(Path(dense), config, tokenizer)
        return build_moe(dense, folder, MoeSettings(experts_from="random", seed=seed, router_std=0.02))
