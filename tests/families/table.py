"""The table in docs/models.md, from what the tests are run on.

python -m families.table     in tests/: writes it anew
"""

from __future__ import annotations

import sys
from pathlib import Path

from families.test_own_sharing import REASONS
from families.tiny import FAMILIES as OTHERS

from gmpo_vl.models.geometry import QWEN_VL
from gmpo_vl.models.shared import KNOWN

PAGE = Path(__file__).parents[2] / "docs/models.md"
BEGIN, END = "<!-- from tests/families/table.py -->\n", "<!-- end -->\n"
HEAD = (
    "| model | `model_type` | pictures | sampled | prompts once per group | engines | transformers |\n"
    "|---|---|---|---|---|---|---|\n"
)
NAMES = {
    "qwen2": "Qwen2, Qwen2.5",
    "qwen2_moe": "Qwen2-MoE",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3-MoE",
    "qwen3_next": "Qwen3-Next",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL-MoE",
    "qwen3_5": "Qwen3.5",
    "qwen3_5_moe": "Qwen3.5-MoE",
    "gemma3": "Gemma 3",
    "gemma4": "Gemma 4",
    "glm4v": "GLM-4.1V",
    "glm4v_moe": "GLM-4.5V",
    "glm46v": "GLM-4.6V",
    "idefics3": "Idefics 3",
    "internvl": "InternVL3 (`-hf`)",
    "llava": "LLaVA",
    "llava_onevision": "LLaVA-OneVision",
    "minicpmv4_6": "MiniCPM-V 4.6",
    "mistral3": "Mistral Small 3.1",
    "smolvlm": "SmolVLM2",
}
# Layers with a recurrent state: EasyR1's versions of vLLM and transformers were not tried on them.
STATES = {"qwen3_5", "qwen3_5_moe", "qwen3_next"}
# In the suite under names of their own: tests/models.
FIRST = ("qwen2", "qwen2_5_vl")


def in_4_57(kind: str) -> bool:
    return OTHERS[kind].also_in_4_57 if kind in OTHERS else not kind.startswith("qwen3_5")


def known_row(kind: str) -> list[str]:
    engines = "local" if kind in STATES else "local, easyr1"
    shared = "yes; not under 4.57" if kind in ("qwen2_moe", "qwen3_next") else "yes"
    return ["yes" if kind in QWEN_VL else "no", "many prompts at once", shared, engines]


def other_row(kind: str) -> list[str]:
    reason = REASONS.get(kind)
    shared = "yes, where the check at the start proves it" if reason is None else f"no: `{reason}`"
    return ["yes", "a prompt at a time", shared, "local"]


def versions(kind: str) -> str:
    found = "4.57, 5" if in_4_57(kind) else "5"
    if kind in OTHERS and OTHERS[kind].torchvision is not None:
        found += f" (its processor wants torchvision under {OTHERS[kind].torchvision})"
    return found


def table() -> str:
    """Rows of all models that a test of every kind is run on."""
    kinds = [*sorted(KNOWN), *sorted(OTHERS)]
    rows = []
    for kind in kinds:
        cells = known_row(kind) if kind in KNOWN else other_row(kind)
        rows.append(f"| {NAMES[kind]} | `{kind}` | {' | '.join(cells)} | {versions(kind)} |\n")
    return HEAD + "".join(rows)


def written(text: str) -> str:
    """The page's text with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
