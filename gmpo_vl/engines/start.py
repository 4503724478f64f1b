"""What a run started from, as its checkpoints keep it. A run that goes on has the weights and the optimizer's
state of its checkpoint: settings that only a new run would follow are refused, not passed over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.config import Config
from gmpo_vl.config.schema import value_of
from gmpo_vl.engines.checkpoint import as_a_start, is_own
from gmpo_vl.engines.fingerprint import config_values, file_hashes, weights_hash
from gmpo_vl.models.loading import model_folder
from gmpo_vl.runs import Run
from gmpo_vl.setup import configured_model, load_configured_environment
from gmpo_vl.storage.files import read_object
from gmpo_vl.storage.manifest import measured
from gmpo_vl.storage.tensors import read_saved

_MODEL = "worker.actor.model.model_path"
_GAMES = "environment."
_LORA = "worker.actor.model.lora"
# They decide which weights are trained, what a trained adapter means, and what the optimizer keeps.
_FIXED = (
    f"{_LORA}.rank",
    "worker.actor.model.override_config",
    "worker.actor.model.freeze_vision_tower",
    "worker.actor.optim.strategy",
)
_FIXED_UNDER_LORA = tuple(f"{_LORA}.{name}" for name in ("alpha", "target_modules", "exclude_modules"))


@dataclass(frozen=True)
class Start:
    """model: as it was named. weights: their hash (fingerprint.py). settings: those that stay, by their
    keys. shape: the values of the model's config.json, by their keys. files: hashes of those that prompts,
    answers and games are made with, by their names."""

    model: str
    weights: str
    settings: Mapping[str, Any]
    shape: Mapping[str, str]
    files: Mapping[str, str]


def start_of(config: Config, run: Run) -> Start:
    """What the configuration starts from. The hashes of files are kept in the run's folder."""
    model, chat = config.worker.actor.model, config.data.override_chat_template
    keys = _FIXED + (_FIXED_UNDER_LORA if model.lora.rank > 0 else ())
    folder = model_folder(str(model.model_path))
    files = file_hashes(folder)
    if model.tokenizer_path is not None:
        files |= file_hashes(model_folder(str(model.tokenizer_path)))
    files |= _hashes_of_games(config)
    if chat is not None:
        files["data.override_chat_template"] = measured(Path(chat)).sha256
    return Start(
        str(model.model_path),
        weights_hash(folder, run.folder / "weight_hashes.json"),
        {key: value_of(config, key) for key in keys},
        config_values(folder),
        files,
    )


def _hashes_of_games(config: Config) -> dict[str, str]:
    """Of the text of a turn, and of the file of a class of one's own."""
    make = load_configured_environment(config)
    if make is None:
        return {}
    template, code = hashlib.sha256(make.template.encode()).hexdigest(), make.class_hash()
    return {f"{_GAMES}template": template} | ({} if code is None else {f"{_GAMES}name": code})


def check_start(run: Run, checkpoint: Path, config: Config, start: Start) -> None:
    """Raise ValueError, with the way out, where a run cannot go on from a checkpoint as it was begun.

    Another run's checkpoint may have begun with other weights, of the same kind of model, unless it is an
    adapter to them: the KL term is then against this run's own start.
    """
    _check_kind(checkpoint, config, start)
    kept = read_saved(checkpoint / "trainer" / "state.pt").get("start")
    if kept is None:
        print(f"{checkpoint} is of an earlier version: another model_path would go unnoticed", flush=True)
        return
    same = is_own(run, checkpoint) or config.worker.actor.model.lora.rank > 0
    if same and kept["weights"] != start.weights:
        moved = kept["model"] != start.model
        now = f"{start.model} holds others" if moved else "they changed since"
        back = f", or write {_MODEL}={kept['model']} to go on" if moved else ""
        raise ValueError(
            f"{checkpoint} is of a run that began with the weights of {kept['model']}, and {now}: a run that "
            f"goes on has its checkpoint's weights, so those would not be trained. Give the new run another "
            f"trainer.experiment_name (or trainer.save_checkpoint_path){back}"
        )
    if same and "shape" in kept:  # not in those of an earlier version
        _check_files(checkpoint, kept, start)
    for key in {**kept["settings"], **start.settings}:
        before, now = kept["settings"].get(key), value_of(config, key)
        if key in kept["settings"] and before != now:
            raise ValueError(
                f"{checkpoint} was trained with {key} {_said(before)}, and it is {_said(now)} now: its "
                f"weights and its optimizer's state go on only as they were. Write {key}={_said(before)}; to "
                f"train its weights in another way {as_a_start(checkpoint)}, under another "
                "trainer.experiment_name"
            )


def _check_files(checkpoint: Path, kept: Mapping[str, Any], start: Start) -> None:
    """Another config.json makes another model of the same weights: refused. With another template, tokenizer,
    processor or environment the model still is the one that was trained: told."""
    if changed := _changed(kept["shape"], start.shape):
        raise ValueError(
            f"{checkpoint} is of a run that began with other values in the config.json of {start.model} "
            f"({', '.join(changed[:5])}): its weights were trained with those. Put them back, or give the "
            "new run another trainer.experiment_name (or trainer.save_checkpoint_path)"
        )
    changed = _changed(kept["files"], start.files)
    if of_model := [name for name in changed if not name.startswith(_GAMES)]:
        print(
            f"WARNING: since {checkpoint} was written, {', '.join(of_model)} of {start.model} changed: from "
            "here on prompts are made, and answers end, as these files say now",
            flush=True,
        )
    both = kept["files"].keys() & start.files.keys()  # another environment is told as another setting
    if of_games := [name for name in changed if name.startswith(_GAMES) and name in both]:
        print(
            f"WARNING: since {checkpoint} was written, what {', '.join(of_games)} stands for changed: from "
            "here on games are played, and turns shown, as its text says now",
            flush=True,
        )


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {**before, **now} if before.get(name) != now.get(name))


def _check_kind(checkpoint: Path, config: Config, start: Start) -> None:
    for part in ("huggingface", "actor/huggingface"):  # of engine local and easyr1
        found = read_object(checkpoint / part / "config.json") or {}
        kind = configured_model(config).model_type
        if found.get("model_type", kind) != kind:
            raise ValueError(
                f"{checkpoint} holds a {found['model_type']!r}, and {_MODEL} {start.model} is a {kind!r}: "
                "a run that goes on has its checkpoint's weights. Give the new run another "
                "trainer.experiment_name (or trainer.save_checkpoint_path)"
            )


def _said(value: Any) -> str:
    """As YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)
