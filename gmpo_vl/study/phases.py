"""A study from its file to its page: tune, freeze, fresh seeds, held-out rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmpo_vl.config import ConfigError, load_config
from gmpo_vl.config.load import save_as_written
from gmpo_vl.config.schema import all_keys, value_of
from gmpo_vl.runs import StudyFolder
from gmpo_vl.storage.files import write_json
from gmpo_vl.storage.yaml_text import shown
from gmpo_vl.study.declaration import Study, StudyError
from gmpo_vl.study.estimates import collect, summarise
from gmpo_vl.study.figure import write_figure
from gmpo_vl.study.grid import (
    SETTINGS_FORM,
    StudyRun,
    config_of,
    fresh_runs,
    one_run_each,
    settings_of,
    tuning_runs,
)
from gmpo_vl.study.outcomes import freeze, grids
from gmpo_vl.study.runner import Command, Runner
from gmpo_vl.study.study_page import write_study_page

EVERY_QUESTION = 1_000_000_000


def run_study(
    study: Study, folder: StudyFolder, workers: int, tell: Callable[[str], None], command: Command
) -> dict[str, Any]:
    """Go through the phases from where they are, with the page after each. Returns results.json's content.

    A failed run stops nothing but what needs it: without a tuning run its method's rate is not chosen,
    without a fresh one the intervals rest on the others. Both are said on the page.
    """
    if not folder.base_file.exists():
        save_as_written(study.base, folder.base_file)
    refuse_another_base(study, folder)
    runner = Runner(folder, workers, tell, command)
    tried = None
    while (wanted := grids(study, folder)) != tried:  # what was tried last may ask for another rate
        runner.run({run.name: arguments(study, folder, run) for run in tuning_runs(study, wanted)})
        tried = wanted
    chosen = freeze(study, folder)
    write_findings(study, folder)
    finals = fresh_runs(study, chosen)
    failed = runner.run({run.name: arguments(study, folder, run) for run in finals})
    if study.test_files is not None:
        write_findings(study, folder)
        trained = {(run.cell, run.seed) for run in finals if run.name not in failed}
        asked = [run for run in fresh_runs(study, chosen, "test") if (run.cell, run.seed) in trained]
        runner.run({run.name: held_out_arguments(study, folder, run) for run in asked})
    results = write_findings(study, folder)
    write_figure(study, folder, collect(study, folder)[0])
    return results


def refuse_another_base(study: Study, folder: StudyFolder) -> None:
    """Runs read the saved base. Raises StudyError where a run of a cell would not get the settings of the
    study's own base, which the plan is made from.
    """
    for run in one_run_each(study).values():
        declared = config_of(study, run)
        try:
            saved = load_config(folder.base_file, settings_of(study, run))
        except ConfigError as error:
            raise StudyError(f"{run.name} cannot run with {folder.base_file}: {error}") from error
        values = {key: (value_of(saved, key), value_of(declared, key)) for key in all_keys()}
        for key, (has, says) in values.items():
            if has != says:
                raise StudyError(
                    f"{folder.base_file}, which runs read, makes {key} {shown(has)} for {run.name}; "
                    f"{study.base} makes it {shown(says)}. Runs that are there had other "
                    "settings than declared: give the study a folder of its own with --out"
                )


def open_study(path: Path, text: str, plan: dict[str, Any]) -> StudyFolder:
    """The study's folder with its plan in it. Raises StudyError where another plan lies there."""
    folder = StudyFolder(path)
    if not has_begun(folder, plan):
        folder.begin(text, plan)
    return folder


def has_begun(folder: StudyFolder, plan: dict[str, Any]) -> bool:
    """Whether this plan lies in the folder already. Raises StudyError where another one does."""
    before = folder.plan()
    if before is None:
        return False
    plan = json.loads(json.dumps(plan))
    if not before["settings_sha256"].startswith(SETTINGS_FORM):
        before = before | {"settings_sha256": plan["settings_sha256"]}
    if before != plan:
        what = "file" if before["file_sha256"] != plan["file_sha256"] else "base configuration"
        raise StudyError(
            f"{folder.folder} holds a study whose {what} was another: a grid is declared before its first "
            "run. Put it back, or give this one a folder of its own with --out"
        )
    return True


def arguments(study: Study, folder: StudyFolder, run: StudyRun) -> list[str]:
    """Of the `gmpo-vl` that makes a run."""
    own = [
        f"trainer.save_checkpoint_path={folder.run(run.name).folder}",
        f"trainer.experiment_name={run.name.replace('/', '-')}",
    ]
    return ["train", str(folder.base_file), *settings_of(study, run), *own]


def held_out_arguments(study: Study, folder: StudyFolder, run: StudyRun) -> list[str]:
    """The same for the last model of the run's fresh run, asked every held-out question."""
    trained = folder.run(StudyRun("final", run.method, run.updates, run.learning_rate, run.seed).name)
    steps = trained.checkpoint_steps()
    if not steps:
        raise StudyError(f"{trained.folder} has no checkpoint to test; remove the folder to run it again")
    return [
        *arguments(study, folder, run),
        f"trainer.val_generations_to_log={EVERY_QUESTION}",
        f"trainer.load_checkpoint_path={trained.checkpoint(steps[-1])}",
    ]


def write_findings(study: Study, folder: StudyFolder) -> dict[str, Any]:
    """results.json and the page, of what there is so far."""
    outcomes, tests = collect(study, folder)
    results = summarise(study, folder, outcomes, tests)
    write_json(folder.results_file, results)
    write_study_page(study, folder, outcomes, results)
    return results
