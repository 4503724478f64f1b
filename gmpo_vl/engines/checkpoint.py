"""A run's checkpoints: where the run stands, what the engine keeps of the model, and which one to go on from.

step_000010/trainer/state.pt  position in the data, groups carried over, best score: the same on every engine
step_000010/...               weights and optimizer, by local/checkpoint.py or easyr1/checkpoint.py
step_000010/manifest.json     size and sha256 of every file (storage/manifest.py)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config.schema import TrainerConfig
from gmpo_vl.engines.fingerprint import Fingerprint
from gmpo_vl.environments.messages import stored
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.runs import Run
from gmpo_vl.storage.files import write_json
from gmpo_vl.storage.manifest import MANIFEST, DamagedError, Written, check_files, write_manifest
from gmpo_vl.storage.tensors import read_saved, telling_where
from gmpo_vl.types import Example, Group, ImageSource, Response, Turn, Verdict

BEST_BY = "val/accuracy", "val/overall"  # the first of them that a validation has


@dataclass
class Progress:
    """Where a run stands, between two steps.

    step: steps done. position: examples taken from the data order.
    carried: groups for the next step (`algorithm.online_filtering`; "surplus" in state.pt).
    best_accuracy / best_step: the best validation so far, by the figure `best_by`.
    unfinished: metrics of the last step where its validation was stopped; empty where the step is whole.
    says_won: has a game said `won` in training so far?
    may_share: did the shared forward pass the parity check (`share_prefix: auto`)? None before it was made.
    probe: sha256 of the run's probe.pt; None before it had one.
    """

    step: int = 0
    position: int = 0
    carried: list[Group] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_step: int = -1
    best_by: str = "val/accuracy"
    unfinished: dict[str, float] = field(default_factory=dict)
    says_won: bool = False
    may_share: bool | None = None
    probe: str | None = None

    def note_validation(self, step: int, metrics: dict[str, float]) -> bool:
        """Is this training step's validation the best so far? It goes by the accuracy; of games that do not
        say `won` by the score, and one with an accuracy is then better than any without."""
        by = next((key for key in BEST_BY if metrics.get(key) is not None), None)
        if step == 0 or by is None:
            return False
        found, best = (-BEST_BY.index(by), metrics[by]), (-BEST_BY.index(self.best_by), self.best_accuracy)
        if self.best_step >= 0 and found <= best:
            return False
        self.best_accuracy, self.best_step, self.best_by = metrics[by], step, by
        return True


# What state.pt holds; later keys may be missing in a checkpoint of an earlier version.
STATE = ("step", "data", "position", "surplus", "best_accuracy", "best_step")
STATE += ("unfinished", "may_share", "resumable")


def save_checkpoint(
    run: Run,
    progress: Progress,
    of_start: dict[str, Any],
    data: Fingerprint,
    resumable: bool,
    save_model: Callable[[Path, bool], Mapping[str, Written]],
) -> None:
    """Write checkpoints/step_N as a whole. of_start: what the run began with (start.py). data: of the
    training rows. save_model: the engine's `save`.

    resumable: False under `save_model_only`; then the engine writes the weights alone. Raises OSError with
    the file and the room on the disk where it cannot be written; nothing of it stays then.
    """
    partial = run.checkpoints / f".partial_step_{progress.step:06d}"
    with telling_where(partial), run.new_checkpoint(progress.step) as folder:
        known = save_model(folder, resumable)
        (folder / "trainer").mkdir(exist_ok=True)
        state = {name: value for name, value in vars(progress).items() if name != "carried"}
        state |= {
            "surplus": [group_state(group) for group in progress.carried],
            "start": of_start,
            "data": data.texts,
            "pictures": data.pictures,
            "resumable": resumable,
            "manifest": True,
        }
        torch.save(state, folder / "trainer" / "state.pt")
        write_manifest(folder, known)


def check_whole(folder: Path) -> None:
    """Raise ValueError, with the way out, where a file of a checkpoint is not what was saved.

    A checkpoint of an earlier version has no manifest: that is told.
    """
    state = folder / "trainer" / "state.pt"
    try:
        if not state.is_file() and not (folder / MANIFEST).is_file():
            if not _is_named_as_one(folder):
                return  # no checkpoint: the engine says what it looked for
            raise DamagedError(folder, f"it holds neither trainer/state.pt nor {MANIFEST}")
        whole = check_files(folder)
        if not state.is_file():
            raise DamagedError(folder, "trainer/state.pt is missing")
        if not whole:
            if read_saved(state, STATE).get("manifest"):
                raise DamagedError(folder, f"{MANIFEST} is missing")
            without = f"{folder} is of an earlier version, without {MANIFEST}"
            print(f"{without}: changed bytes in it may go unnoticed", flush=True)
    except DamagedError as error:
        raise ValueError(f"{error}. {_way_out(folder)}") from error


def _is_named_as_one(folder: Path) -> bool:
    return re.fullmatch(r"step_\d{6,}", folder.absolute().name) is not None


def _way_out(folder: Path) -> str:
    """What to do with a damaged checkpoint: names the newest older one that a run can go on from."""
    run = Run(folder.absolute().parent.parent)
    number = next((step for step in run.checkpoint_steps() if run.checkpoint(step).name == folder.name), None)
    if number is None:
        return "Name another checkpoint"
    for step in reversed([step for step in run.checkpoint_steps() if step < number]):
        try:
            whole = check_files(run.checkpoint(step))
            resumable = read_saved(run.checkpoint(step) / "trainer" / "state.pt", STATE)["resumable"]
        except (ValueError, OSError):
            continue  # damaged too
        if resumable:
            known = "" if whole else ", as far as can be told"
            return f"Move it away to go on from step {step} ({run.checkpoint(step)} is whole{known})"
    return (
        "There is no older one that is whole: put the file back from a copy, or move the checkpoint away, "
        "and all older ones, to begin again"
    )


def load_progress(folder: Path, prompts: PromptSet, data: Fingerprint) -> Progress:
    """Where the run stood at a checkpoint. data: of the training rows as they are now.

    Raises ValueError where it cannot be resumed from, or the training data is not what it was.
    """
    path = folder / "trainer" / "state.pt"
    try:
        state = read_saved(path, STATE)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{error}. {_way_out(folder)}") from error
    own_name = f"step_{state['step']:06d}"
    if _is_named_as_one(folder) and folder.name != own_name:
        raise ValueError(f"{folder} holds step {state['step']}: give it the name it had, {own_name}")
    if not state["resumable"]:
        raise ValueError(
            f"{folder} was saved with trainer.save_model_only and cannot be resumed from; to start from its "
            f"weights {as_a_start(folder)}"
        )
    if state["data"] != data.texts or state.get("pictures", data.pictures) != data.pictures:
        what = "rows" if state["data"] != data.texts else "pictures"
        raise ValueError(
            f"{folder} was trained on other data: the {what} of data.train_files changed since. Start "
            f"another experiment_name from its weights: {as_a_start(folder)}"
        )
    if "pictures" not in state:
        said = "is of an earlier version: pictures that changed since would go unnoticed"
        print(f"{folder} {said}", flush=True)
    return Progress(
        carried=[group_from(values, prompts) for values in state["surplus"]],
        **{f.name: state[f.name] for f in fields(Progress) if f.name in state},
    )


def as_a_start(folder: Path) -> str:
    """How a new run begins with a checkpoint's weights."""
    if (folder / "huggingface").is_dir():
        return f"set worker.actor.model.model_path to {folder / 'huggingface'}"
    return f"gmpo-vl export {folder} FOLDER, then set worker.actor.model.model_path to FOLDER"


def checkpoint_to_go_on_from(run: Run, trainer: TrainerConfig) -> Path | None:
    """The run's own last checkpoint; where it has none, `load_checkpoint_path`; None: begin with the model.

    So the same command, repeated, goes on with what it has done. Raises FileExistsError where a run lies that
    is not to be resumed, ValueError for going back within one.
    """
    steps = run.checkpoint_steps()
    if not trainer.find_last_checkpoint and (steps or run.metrics_file.exists()):
        raise FileExistsError(
            f"{run.folder} already holds a run; give this one another trainer.experiment_name, or set "
            "trainer.find_last_checkpoint=true to go on with it"
        )
    asked = None if trainer.load_checkpoint_path is None else Path(trainer.load_checkpoint_path)
    if not steps:
        return asked
    last = run.checkpoint(steps[-1])
    if asked is not None and asked.resolve() != last.resolve() and is_own(run, asked):
        raise ValueError(
            f"trainer.load_checkpoint_path: {asked} is not this run's last checkpoint ({last}). To go back, "
            "move the later ones away; to keep them, go on from there under another trainer.experiment_name"
        )
    return last


def is_own(run: Run, checkpoint: Path) -> bool:
    """Does the checkpoint lie in this run's folder?"""
    return checkpoint.resolve().parent == run.checkpoints.resolve()


def tidy_checkpoints(run: Run, trainer: TrainerConfig, progress: Progress) -> None:
    """Keep the newest `save_limit` checkpoints (-1: all), and under `save_best` the best one, which best.json
    names.

    Called after a save, and when a run is opened: a kill may have come between.
    """
    steps = run.checkpoint_steps()
    best = progress.best_step if trainer.save_best and progress.best_step in steps else None
    marked = run.checkpoints / "best.json"
    if best is not None:
        write_json(marked, {"step": best, progress.best_by: progress.best_accuracy})
    else:
        marked.unlink(missing_ok=True)
    for step in steps[: -trainer.save_limit] if trainer.save_limit > 0 else []:
        if step != best:
            run.remove_checkpoint(step)


def group_state(group: Group) -> dict[str, Any]:
    """Plain values and tensors only: the file is read without unpickling anything else."""
    state = {
        "key": group.key,
        "id": group.prompt.example.id,
        "responses": [[r.ids_T, r.rollout_log_probs_T, r.text, r.finished, r.seed] for r in group.responses],
        "scores": group.scores,
        "verdicts": [None if verdict is None else asdict(verdict) for verdict in group.verdicts],
        "old_log_probs": group.old_log_probs,
    }
    return state | ({"turns": turns_state(group)} if group.responses[0].turn is not None else {})


def turns_state(group: Group) -> dict[str, Any]:
    """What a group of games was shown: texts, and pictures as they are encoded, each once. Their prompts are
    made again from it. turns: the fields of each response's Turn, its prompt as a number."""
    pictures: dict[ImageSource, int] = {}  # numbered
    prompts: dict[int, int] = {}
    shown: list[list[Any]] = []
    for number, prompt in enumerate(group.prompts):
        prompts[id(prompt)] = number
        sources = [stored(source) for source in prompt.example.images]
        shown.append([prompt.example.problem, [pictures.setdefault(s, len(pictures)) for s in sources]])
    turns = [vars(r.turn) | {"prompt": prompts[id(r.turn.prompt)]} for r in group.responses if r.turn]
    return {"pictures": [_as_value(picture) for picture in pictures], "prompts": shown, "turns": turns}


def turns_from(values: dict[str, Any], example: Example, prompts: PromptSet) -> list[Turn]:
    """The turns of a row's games; those that showed the same hold one prompt, as before."""
    pictures = [p if isinstance(p, str) else p.numpy().tobytes() for p in values["pictures"]]
    encoded = [
        prompts.encoded(replace(example, problem=problem, images=tuple(pictures[i] for i in numbers)))
        for problem, numbers in values["prompts"]
    ]
    return [Turn(**{**fields, "prompt": encoded[fields["prompt"]]}) for fields in values["turns"]]


def _as_value(picture: ImageSource) -> str | torch.Tensor:
    """A path as it is, encoded bytes as uint8."""
    return (
        torch.frombuffer(bytearray(picture), dtype=torch.uint8)
        if isinstance(picture, bytes)
        else str(picture)
    )


def group_from(values: dict[str, Any], prompts: PromptSet) -> Group:
    responses = [Response(*fields) for fields in values["responses"]]
    if "turns" in values:
        turns = turns_from(values["turns"], prompts.example_by_id(values["id"]), prompts)
        responses = [replace(response, turn=turn) for response, turn in zip(responses, turns, strict=True)]
        prompt = turns[0].prompt
    else:
        prompt = prompts.encode_by_id(values["id"])
    verdicts = values.get("verdicts") or [None] * len(values["scores"])  # earlier versions did not keep them
    return Group(
        key=values["key"],
        prompt=prompt,
        responses=responses,
        scores=values["scores"],
        verdicts=[None if said is None else Verdict(**said) for said in verdicts],
        old_log_probs=values["old_log_probs"],
    )
