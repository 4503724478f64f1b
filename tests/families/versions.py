"""Folders of one version of transformers read by another: test_family_versions.py runs this in both.

python versions.py THEIRS OURS     gaps of folders in THEIRS to their kept log-probs; then folders into OURS
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from families.questions import QUESTIONS
from families.tiny import FAMILIES, USABLE, save_family

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids, copy_without_weights, load_model
from gmpo_vl.models.packing import ForwardOptions, pack
from gmpo_vl.models.processing import encode_prompt, load_processor

IS_5 = transformers.__version__.startswith("5")
# Of the same inputs, Idefics 3 itself makes other features of pictures in 5.x.
SHARED = [name for name in USABLE if FAMILIES[name].also_in_4_57 and name != "idefics3"]


def log_probs(folder: Path) -> torch.Tensor:
    """Of one answer to each question, one after the other."""
    processor, model = load_processor(folder), load_model(folder).eval()
    rows = [(encode_prompt(example, processor), torch.arange(20, 30)) for example in QUESTIONS]
    packed = pack(rows, processor.family, torch.device("cpu"))
    with torch.no_grad():
        options = ForwardOptions("public")
        return response_log_probs(model, packed, 1.0, banned_ids(model.config), options=options)[0]


def write(folder: Path) -> None:
    """Every family's folder as published, and as saved by a run that loaded it; with its log-probs."""
    for name in SHARED:
        first, again = folder / f"{name}.published", folder / f"{name}.saved"
        save_family(first, name)
        save_pretrained(load_model(first), again)
        copy_without_weights(first, again)
        for path in (first, again):
            torch.save(log_probs(path), path / "log_probs.pt")


def gaps(folder: Path) -> dict[str, float | str]:
    """Largest difference of each folder's log-probs from those it was written with; or how it failed."""
    found: dict[str, float | str] = {}
    for path in sorted(folder.glob("*/log_probs.pt")):
        if path.parent.stem not in SHARED:
            continue
        try:
            found[path.parent.name] = float((log_probs(path.parent) - torch.load(path)).abs().max())
        except Exception as error:
            found[path.parent.name] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    theirs, ours = (Path(argument) for argument in sys.argv[1:])
    (theirs / "gaps.json").write_text(json.dumps(gaps(theirs)))
    write(ours)
