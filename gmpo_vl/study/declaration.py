"""A study's file: what varies and what is held equal. What cannot be run so is refused here, in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from gmpo_vl.storage.names import nearest
from gmpo_vl.storage.yaml_text import read_settings, wrong_kind
from gmpo_vl.study.quantities import QUANTITIES

LEAST_FRESH_SEEDS = 3
LEAST_TUNING_SEEDS = 2  # of a primary study: one seed may choose a rate by luck
LEARNING_RATE = "worker.actor.optim.lr"
NOT_OF_REWARDS = ("val/response_length", "val/truncated")  # validation measures them itself
SEEDS = ("data.seed", "worker.rollout.seed")
OWN = (LEARNING_RATE, *SEEDS, "trainer.save_checkpoint_path", "trainer.experiment_name", "trainer.val_only")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


class StudyError(ValueError):
    """A study that cannot be run as its file says."""


@dataclass(frozen=True)
class Study:
    """A study's file, checked. Overrides are `a.b=c`; two that set one key are refused.

    methods, updates: {name: overrides}; the first method is the one that others are compared with. updates:
    settings of the updates per rollout batch. metric: of metrics.jsonl, higher is better. last: a run's score
    is the mean of its last so many validations. tuning_seeds: may be none ([]) where there is one rate, which
    was found elsewhere. test_files: held-out rows, asked after every fresh run.

    extend: while the best rate of a method is the grid's smallest or largest, the setting's grid gets one
    more rate beyond it, for all methods alike, at most so many times (`outcomes.grids`).

    kind: how the differences of the held-out score get verdicts (`verdicts`): `primary` each by itself,
    `exploratory` corrected for their number; None, not at all. margin: of equivalence. assumed_deviation:
    standard deviation between seeds of a difference, as assumed before the first run. Both are in the unit of
    the held-out score. expect: {`test` or a quantity: the side of the baseline where methods are expected}.
    """

    name: str
    base: str
    methods: dict[str, tuple[str, ...]]
    learning_rates: tuple[float, ...]
    updates: dict[str, tuple[str, ...]]
    tuning_seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    metric: str = "val/accuracy"
    last: int = 1
    overrides: tuple[str, ...] = ()
    test_files: str | None = None
    extend: int = 0
    kind: Literal["primary", "exploratory"] | None = None
    margin: float | None = None
    assumed_deviation: float | None = None
    expect: dict[str, Literal["higher", "lower"]] = field(default_factory=dict)

    @property
    def cells(self) -> list[tuple[str, str]]:
        """(method, setting of updates), in the file's order: what a learning rate is chosen for."""
        return [(method, updates) for updates in self.updates for method in self.methods]


def read_study(path: str | Path) -> Study:
    """Read and check a study's file. `base` is relative to it, other paths to where the command runs.

    Raises StudyError with every fault that was found, a line each.
    """
    path = Path(path)
    try:
        tree = read_settings(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"there is no study file {path}") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise StudyError(f"{path} holds no keys; a study names base, methods, learning_rates, ...")
    if said := wrong_kind(path, tree, "a study"):
        raise StudyError(said)
    values = {str(key): value for key, value in tree.items()}
    values.setdefault("name", path.stem)
    problems = _key_problems(values) or _value_problems(values)
    if problems:
        raise StudyError("\n".join(f"{path}: {problem}" for problem in problems))
    groups = {
        key: {str(name): tuple(overrides or ()) for name, overrides in values[key].items()}
        for key in ("methods", "updates")
    }
    lists = ("learning_rates", "tuning_seeds", "fresh_seeds", "overrides")
    sequences = {key: tuple(values[key]) for key in lists if key in values}
    sequences["learning_rates"] = tuple(map(float, values["learning_rates"]))
    study = Study(**{**values, **groups, **sequences, "base": str(path.parent / values["base"])})
    _refuse_twofold(study, path)
    return study


def _key_problems(values: dict[str, Any]) -> list[str]:
    known = {field.name: field for field in fields(Study)}
    unknown = [
        f"there is no key {key}{nearest(key, known)}; a study has {', '.join(known)}"
        for key in values
        if key not in known
    ]
    needed = ("base", "methods", "learning_rates", "updates", "tuning_seeds", "fresh_seeds")
    untuned = values.get("tuning_seeds") == []
    return unknown + [
        f"{key} is missing"
        for key in needed
        if values.get(key) in (None, "", [], {}) and not (key == "tuning_seeds" and untuned)
    ]


def _value_problems(values: dict[str, Any]) -> list[str]:
    """What is wrong with the values, one sentence each."""
    found = []
    for key in ("methods", "updates"):
        found += _group_problems(key, values[key])
    if not _is_list_of(values.get("overrides", []), str):
        found.append("overrides must be a list of a.b=c")
    rates = values["learning_rates"]
    if (
        not _is_list_of(rates, (int, float))
        or not all(0 < rate < math.inf for rate in rates)
        or _repeats(rates)
    ):
        found.append(f"learning_rates is {rates!r}, but must be a list of different numbers above 0")
    elif not values["tuning_seeds"] and len(rates) > 1:
        found.append(f"tuning_seeds is empty, but learning_rates has {len(rates)} to choose from; name seeds")
    for key in ("tuning_seeds", "fresh_seeds"):
        if not _is_list_of(values[key], int) or _repeats(values[key]):
            found.append(f"{key} is {values[key]!r}, but must be a list of different whole numbers")
    if found:
        return found
    shared = sorted(set(values["tuning_seeds"]) & set(values["fresh_seeds"]))
    if shared:
        found.append(
            f"seeds {shared} are tuning seeds and fresh seeds: "
            "a rate must be tried on seeds it was not chosen on"
        )
    if len(values["fresh_seeds"]) < LEAST_FRESH_SEEDS:
        found.append(
            f"fresh_seeds has {len(values['fresh_seeds'])}; an interval over seeds needs {LEAST_FRESH_SEEDS}"
        )
    metric, last = values.get("metric", "val/accuracy"), values.get("last", 1)
    if not isinstance(metric, str) or not metric.startswith("val/"):
        found.append(
            f"metric is {metric!r}, but rates are tuned on validation: one of val/..., such as val/accuracy"
        )
    if metric in NOT_OF_REWARDS and values.get("test_files") is not None:
        found.append(
            f"metric is {metric}, but test_files are scored by the reward, whose scores have no "
            f"{metric.removeprefix('val/')}: name a part of the reward, or leave test_files out"
        )
    if not isinstance(last, int) or isinstance(last, bool) or last < 1:
        found.append(
            f"last is {last!r}, but must be how many of the last validations make a score: 1, 2, ..."
        )
    if not _NAME.fullmatch(str(values["name"])):
        found.append(f"name is {values['name']!r}, but names a folder: letters, digits and . _ + -")
    for key in ("name", "base", "test_files"):
        if not isinstance(values.get(key, ""), str) and not (key == "test_files" and values[key] is None):
            found.append(f"{key} is {values[key]!r}, but must be text")
    extend = values.get("extend", 0)
    if not isinstance(extend, int) or isinstance(extend, bool) or extend < 0:
        found.append(f"extend is {extend!r}, but must be how often a grid of rates may grow: 0, 1, ...")
    elif extend and len(rates) < 2:
        found.append("extend goes on with the ratio of two neighbouring rates: learning_rates needs two")
    return found + _verdict_problems(values)


def _verdict_problems(values: dict[str, Any]) -> list[str]:
    """Of the keys that verdicts need, and that have no use without them."""
    kind, expect = values.get("kind"), values.get("expect", {})
    own = ("margin", "assumed_deviation", "expect")
    if kind is None:
        return [f"{key} has no use without kind" for key in own if key in values]
    if kind not in ("primary", "exploratory"):
        return [f"kind is {kind!r}, but must be primary or exploratory"]
    needed = ("test_files", "margin", "assumed_deviation")
    found = [f"a study with verdicts needs {key}" for key in needed if values.get(key) is None]
    for key in needed[1:]:
        value = values.get(key, 1.0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            found.append(f"{key} is {value!r}, but must be a number above 0, in the held-out score's unit")
    known = ("test", *(quantity.key for quantity in QUANTITIES))
    if not isinstance(expect, dict) or any(side not in ("higher", "lower") for side in expect.values()):
        found.append(f"expect is {expect!r}, but must be QUANTITY: higher or lower, a line each")
    else:
        found += [
            f"expect names {key}{nearest(str(key), known)}; there are {', '.join(known)}"
            for key in expect
            if key not in known
        ]
    if kind == "primary" and len(values["tuning_seeds"]) < LEAST_TUNING_SEEDS:
        found.append(
            f"tuning_seeds has {len(values['tuning_seeds'])}; a primary study needs {LEAST_TUNING_SEEDS}"
        )
    return found


def _group_problems(key: str, group: Any) -> list[str]:
    if not isinstance(group, dict):
        return [f"{key} must be NAME: [a.b=c, ...], a line each"]
    found = []
    for name, overrides in group.items():
        if not _NAME.fullmatch(str(name)):
            found.append(f"{key}: {name!r} names folders too: letters, digits and . _ + -")
        if not _is_list_of(overrides or [], str):
            found.append(f"{key}.{name} is {overrides!r}, but must be a list of a.b=c")
    return found


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def _repeats(values: Sequence[Any]) -> bool:
    return len(set(values)) < len(values)


def _refuse_twofold(study: Study, path: Path) -> None:
    """Refuse a key that the study sets itself, or that a method and a setting of updates both set."""
    for method, updates in study.cells:
        own = {key: "the study itself" for key in OWN}
        parts = {f"methods.{method}": study.methods[method], f"updates.{updates}": study.updates[updates]}
        for where, overrides in {"overrides": study.overrides, **parts}.items():
            for key in (text.partition("=")[0].strip() for text in overrides):
                if key in own:
                    raise StudyError(f"{path}: {where} sets {key}, which {own[key]} sets")
                own[key] = where
