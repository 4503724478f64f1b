"""LoRA adapters in a model: where they cannot be merged, and how they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any


def shared_targets(adapted: Any) -> list[str]:
    """Names of the modules with an adapter whose weights another module has, too, as a tied head has the
    embedding's. Merging would change both, where the adapter changes one. adapted: peft's model."""
    from peft.tuners.lora import LoraLayer

    holders = Counter(id(p) for module in adapted.modules() for p in module.parameters(recurse=False))
    return sorted(
        name.removeprefix("base_model.model.")
        for name, module in adapted.named_modules()
        if isinstance(module, LoraLayer)
        and any(holders[id(p)] > 1 for p in module.get_base_layer().parameters())
    )


def merged(base: Any, folder: Path) -> Any:
    """`base` with the adapter in `folder` merged in. What could be trained before can be trained after.

    Raises ValueError where the merged model would not be the trained one.
    """
    from peft import PeftModel

    trainable = {name for name, parameter in base.named_parameters() if parameter.requires_grad}
    adapted = PeftModel.from_pretrained(base, str(folder))
    if shared := shared_targets(adapted):
        raise ValueError(
            f"{folder}: its adapter is on {', '.join(shared)}, and another part of the model has the same "
            "weights (tied embeddings): merged, it would change both and be another model than the trained "
            "one. peft alone can load it, unmerged; train without that target to use it here"
        )
    model = adapted.merge_and_unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable)
    return model
