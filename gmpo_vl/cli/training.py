"""`gmpo-vl train | export | report | study`. Heavy imports wait until a command runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.cli.data import at_least, new_path
from gmpo_vl.progress import quiet_libraries

if TYPE_CHECKING:
    from gmpo_vl.config import Config
    from gmpo_vl.study.declaration import Study


def add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a model as a configuration says")
    parser.add_argument("config", help="a YAML file (configs/ has some)")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, train nothing"
    )
    parser.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> int:
    from gmpo_vl.config import doubts, load_config, notices
    from gmpo_vl.engines import trainer_of
    from gmpo_vl.setup import check_sources

    quiet_libraries()
    config = load_config(options.config, options.overrides)
    check_sources(config)  # before a model, which may have to be fetched
    if options.dry_run:
        from gmpo_vl.preflight.plan import dry_run

        print(dry_run(config))
        return 0
    train = trainer_of(config)
    for line in [*notices(config), *(f"WARNING: {doubt}" for doubt in doubts(config))]:
        print(line)
    train(config)
    if not config.trainer.val_only:
        print(_saved(config))
    return 0


def _saved(config: Config) -> str:
    """Where the trained model is."""
    from gmpo_vl.engines.opening import run_of

    run = run_of(config)
    if not (steps := run.checkpoint_steps()):
        return f"{run.folder}: no checkpoint was saved; trainer.save_freq says how often one is"
    checkpoint = run.checkpoint(steps[-1])
    if config.engine == "easyr1":
        return f"saved: {checkpoint}; `gmpo-vl export {checkpoint} FOLDER` makes a model folder of it"
    if config.worker.actor.model.lora.rank > 0:
        merged = f"`gmpo-vl export {checkpoint} FOLDER` merges it into its model"
        return f"saved: {checkpoint / 'huggingface'}, an adapter for `gmpo-vl eval`; {merged}"
    return f"saved: {checkpoint / 'huggingface'}, the model folder for `gmpo-vl eval`"


def add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export", help="an EasyR1 checkpoint, or a LoRA checkpoint, as a Hugging Face folder"
    )
    parser.add_argument("checkpoint", help="for example runs/NAME/checkpoints/step_000100")
    parser.add_argument("folder", type=new_path, help="where the model goes; must not exist")
    parser.add_argument("--adapter", action="store_true", help="the LoRA adapter alone (default: merged)")
    parser.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    from gmpo_vl.engines.easyr1.export import export
    from gmpo_vl.engines.local.export import export_merged

    quiet_libraries()
    checkpoint = Path(options.checkpoint)
    if (checkpoint / "huggingface").is_dir() and not options.adapter:
        export_merged(checkpoint, options.folder)
        print(f"{options.folder}: the adapter merged into its model")
        return 0
    gaps = export(checkpoint, options.folder, options.adapter)
    print(
        f"{options.folder}: log-probs within {gaps.largest:.1e} nats of the trained model's "
        f"({gaps.rms:.1e} root mean square)"
    )
    return 0


def add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="write a run's page, report.html")
    parser.add_argument("run_folder", help="for example runs/demo")
    parser.set_defaults(run=run_report)


def run_report(options: argparse.Namespace) -> int:
    from gmpo_vl.report import write_report

    print(write_report(options.run_folder))
    return 0


def add_study(commands: Any, command: Callable[[list[str]], int]) -> None:
    """command: gmpo-vl itself, which a study's runs call."""
    parser = commands.add_parser(
        "study",
        help="compare methods: rates tuned alike, then frozen, then fresh seeds",
        description="The same command goes on with a study that was stopped, and tries failed runs again. "
        "Exit code: 0 every run ended well, 1 one did not, 2 the file cannot be run, 130 stopped.",
    )
    parser.add_argument("file", help="a study's YAML file (configs/study/ has one)")
    parser.add_argument("--out", type=new_path, help="the study's folder (runs/studies/NAME)")
    parser.add_argument("--workers", type=at_least(1), default=1, help="runs at once (1)")
    parser.add_argument("--dry-run", action="store_true", help="check the file, print the plan, run nothing")
    parser.set_defaults(run=run_study_command, command=command)


def run_study_command(options: argparse.Namespace) -> int:
    from gmpo_vl.runs import StudyFolder
    from gmpo_vl.study.declaration import StudyError, read_study
    from gmpo_vl.study.grid import make_plan
    from gmpo_vl.study.phases import has_begun, open_study, run_study
    from gmpo_vl.study.rows import check_rows, missing_rows

    study = read_study(options.file)
    text = Path(options.file).read_text(encoding="utf-8")
    plan = make_plan(study, text)
    path = options.out or Path("runs/studies") / study.name
    begun = has_begun(StudyFolder(path), plan)
    absent = missing_rows(study)
    if absent and not options.dry_run:
        raise StudyError("\n".join(absent))
    if not absent:
        quiet_libraries()
    warnings = absent or check_rows(study)
    print(f"{_grid_in_words(study, plan)}\nfolder      {path}", flush=True)
    for line in warnings:
        print(f"WARNING: {line}", flush=True)
    if options.dry_run:
        if begun:
            print("            the study has begun there; the command goes on with it")
        return 0
    folder = open_study(path, text, plan)
    try:
        results = run_study(
            study, folder, options.workers, lambda line: print(line, flush=True), options.command
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on", flush=True)
        return 130
    failed = [run for run in results["runs"] if run["state"] == "failed"]
    print(f"{len(failed)} runs failed\n" * bool(failed) + str(folder.page_file))
    return 1 if failed else 0


def _grid_in_words(study: Study, plan: dict[str, Any]) -> str:
    from gmpo_vl.study.grid import config_of, one_run_each

    config = config_of(study, next(iter(one_run_each(study).values())))
    steps = config.trainer.max_steps
    counts = plan["runs"]
    updates = ", ".join(f"{name} ({count})" for name, count in plan["updates_per_rollout_batch"].items())
    batch = f"{config.data.rollout_batch_size} prompts x {config.worker.rollout.n}"
    lines = [
        f"study       {study.name}, from {study.base}",
        f"methods     {', '.join(study.methods)}",
        f"updates     {updates} per rollout batch of {batch}",
        f"rates       {', '.join(f'{rate:g}' for rate in study.learning_rates)}",
        f"a run       {f'{steps} steps' if steps else f'{config.trainer.total_epochs} passes over the data'}",
        *_tuning_in_words(study, counts["tune"]),
        f"2. fresh    {counts['final']} runs: seeds {', '.join(map(str, study.fresh_seeds))}",
    ]
    if counts["test"]:
        lines.append(f"3. test     {counts['test']} of those models asked {study.test_files}")
    return "\n".join([*lines, *_rules_in_words(study, plan)])


def _tuning_in_words(study: Study, runs: int) -> list[str]:
    if not study.tuning_seeds:
        return ["1. tune     nothing: there is one rate, and there are no tuning seeds"]
    per_cell = len(study.learning_rates) * len(study.tuning_seeds)
    return [
        f"1. tune     {runs} runs: {per_cell} for each of {len(study.cells)} pairs of method and "
        f"updates, seeds {', '.join(map(str, study.tuning_seeds))}",
        f"            scored by {study.metric}, mean of the last {study.last}; then the rates are frozen",
    ]


def _rules_in_words(study: Study, plan: dict[str, Any]) -> list[str]:
    """A line for each rule that the file sets: how grids grow, and what verdicts go by."""
    expected = ", ".join(f"{name} {side}" for name, side in study.expect.items())
    found = plan.get("detectable")
    said = {
        "extend": study.extend and f"{study.extend} more rates at most, beyond a grid's edge",
        "kind": study.kind,
        "margin": study.margin and f"{study.margin:g}, of equivalence",
        "deviation": study.assumed_deviation
        and f"{study.assumed_deviation:g} between seeds, assumed (assumed_deviation)",
        "detectable": found
        and f"a true held-out difference of {found:.2g} is found 4 times in 5 at that deviation",
        "expect": expected and f"against {next(iter(study.methods))}: {expected}",
    }
    return [f"{name:<12}{value}" for name, value in said.items() if value]
