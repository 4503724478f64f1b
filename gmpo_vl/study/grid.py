"""Which runs a study's file makes, and the plan that is written before the first of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gmpo_vl.config import Config, ConfigError, load_config
from gmpo_vl.config.schema import all_keys, value_of
from gmpo_vl.storage.manifest import same_file
from gmpo_vl.study.declaration import LEARNING_RATE, SEEDS, Study, StudyError
from gmpo_vl.study.metric import check_parts, returns_accuracy, unknown_metric
from gmpo_vl.study.quantities import NEEDED_KEYS, QUANTITIES
from gmpo_vl.study.verdicts import detectable_before, rules_of

_REWARD = "worker.reward."
# Of training alone, and bound to the parts of the reward or to each other.
_ADVANTAGES = (
    "adv_estimator",
    "reward_weights",
    "online_filtering",
    "filter_",
    "overlong_",
    "gamma",
    "step_advantage_weight",
    "episode_baseline",
)
_OF_THE_JUDGE = (_REWARD, *(f"algorithm.{name}" for name in _ADVANTAGES))


@dataclass(frozen=True)
class StudyRun:
    """One `gmpo-vl train`. phase: tune, final, or test (the final run's model asked the held-out rows)."""

    phase: str
    method: str
    updates: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Its folder in the study's runs/; a chosen rate is in chosen.json."""
        rate = [f"lr{self.learning_rate!r}"] if self.phase == "tune" else []
        return "/".join([self.phase, self.method, self.updates, *rate, f"seed{self.seed}"])

    @property
    def cell(self) -> tuple[str, str]:
        return self.method, self.updates


Grids = dict[str, tuple[float, ...]]  # {setting of updates: its learning rates}


def first_grids(study: Study) -> Grids:
    """The rates that the file names, for every setting."""
    return {updates: study.learning_rates for updates in study.updates}


def tuning_runs(study: Study, grids: Grids | None = None) -> list[StudyRun]:
    """Every rate of every method and setting on the tuning seeds, as many for each. Seeds outermost.

    grids: of `outcomes.grids`; those that the file names by default.
    """
    rates = grids or first_grids(study)
    return [
        StudyRun("tune", method, updates, rate, seed)
        for seed in study.tuning_seeds
        for method, updates in study.cells
        for rate in rates[updates]
    ]


def one_run_each(study: Study) -> dict[tuple[str, str], StudyRun]:
    """The first run of every cell: the others have another rate or seed."""
    runs = tuning_runs(study) or fresh_runs(study, dict.fromkeys(study.cells, study.learning_rates[0]))
    first = {run.cell: run for run in reversed(runs)}
    return {cell: first[cell] for cell in study.cells}


def fresh_runs(study: Study, chosen: dict[tuple[str, str], float], phase: str = "final") -> list[StudyRun]:
    """The chosen rates on the fresh seeds; a cell for which none could be chosen has no run."""
    return [
        StudyRun(phase, *cell, chosen[cell], seed)
        for seed in study.fresh_seeds
        for cell in study.cells
        if cell in chosen
    ]


def settings_of(study: Study, run: StudyRun) -> list[str]:
    """The overrides of `base` that a run has, its folder and checkpoint left out.

    Held-out answers of all methods are scored alike: by the first method's reward. What training makes of a
    reward's parts comes with it: nothing is trained, and a method's own may name parts that it does not have.
    """
    own, test = study.methods[run.method], []
    if run.phase == "test":
        first = study.methods[next(iter(study.methods))]
        kept = (text for text in own if not text.startswith(_OF_THE_JUDGE))
        own = (*kept, *(text for text in first if text.startswith(_OF_THE_JUDGE)))
        test = ["trainer.val_only=true", f"data.val_files={study.test_files}"]
    return [
        *study.overrides,
        *own,
        *study.updates[run.updates],
        f"{LEARNING_RATE}={run.learning_rate!r}",
        *(f"{key}={run.seed}" for key in SEEDS),
        *test,
    ]


def config_of(study: Study, run: StudyRun) -> Config:
    try:
        return load_config(study.base, settings_of(study, run))
    except ConfigError as error:
        raise StudyError(f"{run.name} cannot run: {error}") from error


def updates_per_batch(config: Config) -> int:
    actor, data = config.worker.actor, config.data
    return actor.ppo_epochs * -(-data.rollout_batch_size // actor.global_batch_size)


# Settings at their defaults are left out, so that a later version's new keys change no hash. Hashes without
# this mark are older and held every setting: they cannot be compared with today's.
SETTINGS_FORM = "set:"
# Of a study, left out of the plan where they are at their defaults: plans of earlier versions lack them.
LATER_KEYS = ("extend", "kind", "margin", "assumed_deviation", "expect")


def make_plan(study: Study, text: str) -> dict[str, Any]:
    """plan.json: the declared grid. `text`: the study's file. `settings_sha256` covers every setting of a run
    of each cell, so a base file that changed is seen too.

    Raises StudyError for runs that could not start, or would leave no score.
    """
    tuning, one_each = tuning_runs(study), one_run_each(study)
    configs = {cell: config_of(study, one_each[cell]) for cell in study.cells}
    for cell, config in configs.items():
        name = one_each[cell].name
        trainer = config.trainer
        if not config.data.val_files or trainer.val_freq < 1:
            raise StudyError(
                f"{name}: rates are tuned on validation: set data.val_files and trainer.val_freq"
            )
        _refuse_unknown_metric(study, config, name)
        _refuse_seen_test_rows(study, config)
        _refuse_unmeasured(study, config, name)
        _refuse_unknown_parts(config, name)
    _refuse_twins(study, configs)
    _refuse_large_share(study, next(iter(configs.values())))
    _refuse_other_judges(study, one_each)
    default = Config()
    every = json.dumps(
        [
            {key: value for key in all_keys() if (value := value_of(c, key)) != value_of(default, key)}
            for c in configs.values()
        ]
    )
    declared = {**asdict(study), "base": Path(study.base).name}
    declared = {key: value for key, value in declared.items() if key not in LATER_KEYS or value}
    rules: dict[str, Any] = {"rules": rules_of(study)} if study.kind or study.extend else {}
    if study.kind:
        rules["detectable"] = detectable_before(study)
    return {
        "name": study.name,
        "file_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "settings_sha256": SETTINGS_FORM + hashlib.sha256(every.encode()).hexdigest(),
        "study": declared,
        "updates_per_rollout_batch": {updates: updates_per_batch(c) for (_, updates), c in configs.items()},
        "runs": {
            "tune": len(tuning),
            "final": len(study.cells) * len(study.fresh_seeds),
            "test": len(study.cells) * len(study.fresh_seeds) if study.test_files else 0,
        },
        **rules,
    }


def _refuse_unknown_metric(study: Study, config: Config, name: str) -> None:
    try:
        problem = unknown_metric(study.metric, config)
    except ValueError as error:
        raise StudyError(f"{name} cannot run: {error}") from error
    if problem:
        raise StudyError(f"{name} would leave no score: {problem}")


def _refuse_seen_test_rows(study: Study, config: Config) -> None:
    """Held-out rows are neither trained on nor what the rate was chosen on."""
    for key in ("train_files", "val_files"):
        seen = getattr(config.data, key)
        if study.test_files and seen and same_file(Path(seen), Path(study.test_files)):
            raise StudyError(
                f"test_files is {study.test_files}, which is data.{key} too, or a copy: held-out rows are "
                "others"
            )


def _refuse_unknown_parts(config: Config, name: str) -> None:
    try:
        check_parts(config)
    except ValueError as error:
        raise StudyError(f"{name} cannot run: {error}") from error


def _refuse_large_share(study: Study, config: Config) -> None:
    """config: of the first method, whose reward gives the held-out score."""
    for key in ("margin", "assumed_deviation"):
        value = getattr(study, key)
        if value is not None and value >= 1 and study.metric == "val/accuracy" and returns_accuracy(config):
            raise StudyError(f"{key} is {value!r}, but is a share of right answers: 0.02 is 2 points")


def _refuse_twins(study: Study, configs: Mapping[tuple[str, str], Config]) -> None:
    """Two methods with the same settings would be one, run twice."""
    seen: dict[tuple[str, str], str] = {}
    for (method, updates), config in configs.items():
        settings = repr([value_of(config, key) for key in all_keys()])
        twin = seen.setdefault((updates, settings), method)
        if twin != method:
            raise StudyError(
                f"methods.{twin} and methods.{method} have the same settings (under updates.{updates}): "
                "nothing would be compared"
            )


def _refuse_other_judges(study: Study, one_each: Mapping[tuple[str, str], StudyRun]) -> None:
    """One reward scores the held-out answers of all methods, and can score them."""
    if not study.test_files:
        return
    first = next(iter(study.methods))
    judges = {cell: config_of(study, replace(run, phase="test")) for cell, run in one_each.items()}
    for (method, updates), judge in judges.items():
        if judge.worker.reward != judges[first, updates].worker.reward:
            raise StudyError(
                f"methods.{method} would score held-out answers by another reward than {first}: write its "
                f"reward as overrides that begin with {_REWARD}"
            )
        _refuse_unknown_parts(judge, replace(one_each[method, updates], phase="test").name)


def _refuse_unmeasured(study: Study, config: Config, name: str) -> None:
    """What is expected must be measured."""
    for quantity in QUANTITIES:
        needs = next((key for start, key in NEEDED_KEYS.items() if quantity.metric.startswith(start)), None)
        if quantity.key in study.expect and needs and value_of(config, needs) < 1:
            raise StudyError(f"{name}: expect names {quantity.key}, which {needs} measures; set it")
