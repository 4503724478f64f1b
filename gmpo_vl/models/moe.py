"""A mixture of experts made of a dense Qwen2 or Qwen2.5: standard Qwen2-MoE files that transformers, EasyR1 and vLLM read.

    build_moe("models/qwen2_5_0_5b", "models/qwen2_5_moe", MoeSettings())        8 experts, 1 active

Every layer's MLP becomes a shared expert, which all tokens pass, and E experts, of which the router picks k for each token:

    MLP(x)  ->  sigmoid(g x) shared(x) + sum over the k chosen of p_e(x) expert_e(x)

The shared expert is the dense MLP, and its gate g starts at 0, which is a half. With `experts_from: copies` every expert is the
dense MLP too, with noise, its output scaled so that the other half comes from the experts while the router prefers none: the
mixture starts out as the dense model. With `random` experts start as an untrained model's.

The router's probabilities stay as they are (`norm_topk_prob: false`). Normalised over one chosen expert they would be 1
whatever the router says, and it would never get a gradient.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gmpo_vl.models.tiny import randomize

MLP = ("gate_proj", "up_proj", "down_proj")
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf", ".pth")


@dataclass(frozen=True)
class MoeSettings:
    """experts: how many, `active` of them a token. experts_from: `copies` of the dense MLP, or `random`.

    expert_width: of `random` experts, None: the dense MLP's (copies have no other). noise: standard deviation of what is
    added to a copy, as a share of the copied matrix's own. router_std: of the router's weights.
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


def router_obstacle(config: Any) -> str | None:
    """Why this model's router would not learn, in words; None where it would, and for models without one."""
    text = config.get_text_config()
    if getattr(text, "num_experts_per_tok", None) == 1 and getattr(text, "norm_topk_prob", False):
        return (
            "its router picks one expert a token and norm_topk_prob is on: the weight of the one is then always 1, and the "
            "router gets no gradient; write norm_topk_prob: false into its config.json"
        )
    return None


def moe_config(dense: dict[str, Any], settings: MoeSettings) -> dict[str, Any]:
    """`config.json` of the mixture, from the dense model's.

    Raises ValueError where the dense model is none of Qwen2's kind.
    """
    if dense.get("model_type") != "qwen2":
        raise ValueError(
            f"model_type {dense.get('model_type')!r}: a Qwen2-MoE is made of a dense qwen2 (Qwen2, Qwen2.5) only"
        )
    width = settings.expert_width or dense["intermediate_size"]
    return {
        **dense,
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": settings.experts,
        "num_experts_per_tok": settings.active,
        "moe_intermediate_size": width,
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
    """The mixture's tensors by their names in published Qwen2-MoE checkpoints, of the dense model's."""
    generator = torch.Generator().manual_seed(settings.seed)
    for name, tensor in dense.items():
        layer, _, part = name.partition(".mlp.")
        if not part:
            yield name, tensor
            continue
        kind = part.removesuffix(".weight")
        yield f"{layer}.mlp.shared_expert.{part}", tensor
        for e in range(settings.experts):
            expert = _expert(tensor, kind, config, settings, generator)
            yield f"{layer}.mlp.experts.{e}.{part}", expert
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
    # A half in all, of k experts that a router without a preference weighs with 1/E each.
    return (copy * (settings.experts / (2 * settings.active) if kind == "down_proj" else 1.0)).to(dense.dtype)


def build_moe(
    dense: str | Path, out: str | Path, settings: MoeSettings | None = None, **config_changes: Any
) -> Path:
    """Write the mixture of a dense model's folder as a Hugging Face folder; returns it.

    A folder without weights (config.json and tokenizer) gives an untrained one; only there config_changes, keys of the dense
    config.json, may replace what it says (hidden_size=512). The tokenizer's files are copied. Everything is held in memory.
    Raises ValueError for a model that is none of Qwen2's kind, FileExistsError where `out` has files.
    """
    from huggingface_hub import save_torch_state_dict

    from gmpo_vl.models.compat import with_old_names

    settings = settings or MoeSettings()
    dense, out = Path(dense), Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is there and not empty; name another folder")
    config = with_old_names(json.loads((dense / "config.json").read_text(encoding="utf-8")))
    config.pop("rope_parameters", None)  # said in rope_theta and rope_scaling, which may change
    files = sorted(dense.glob("*.safetensors"))
    if files and config_changes:
        raise ValueError(
            f"{', '.join(config_changes)}: {dense} has weights, which have the shapes that its config.json says"
        )
    if unknown := sorted(config_changes.keys() - config.keys()):
        raise ValueError(f"{', '.join(unknown)}: not in {dense / 'config.json'}, whose keys can change")
    config |= config_changes
    mixture = moe_config(config, settings)
    state = _read(files) if files else _untrained(config, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(dict(moe_state(state, mixture, settings)), out)
    (out / "config.json").write_text(json.dumps(mixture, indent=2) + "\n", encoding="utf-8")
    for path in dense.iterdir():
        if path.is_file() and path.name != "config.json" and not path.name.endswith(WEIGHTS):
            shutil.copy(path, out / path.name)
    return out


def _read(files: list[Path]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _untrained(config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """A dense model's random float32 weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng(devices=[]):
        model = Qwen2ForCausalLM(Qwen2Config(**config))
    randomize(model, config["initializer_range"], seed)
    state = model.state_dict()
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    return state
