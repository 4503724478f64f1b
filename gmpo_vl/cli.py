"""gmpo-vl: the command line. Thin: it parses, calls, prints; what is heavy is imported when it is needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gmpo_vl import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it was asked, 2 with a sentence on stderr when the input was wrong."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, FileNotFoundError, FileExistsError, KeyError) as error:
        if options.traceback:
            raise
        print(f"gmpo-vl: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gmpo-vl", description="Vision-language RL with Geometric-Mean Policy Optimization."
    )
    parser.add_argument("--version", action="version", version=f"gmpo-vl {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model as a configuration says")
    train.add_argument("config", help="a YAML file (configs/ has some)")
    train.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    train.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, train nothing"
    )
    train.set_defaults(run=run_train)

    _add_eval(commands)

    grade = commands.add_parser(
        "grade", help="verify answers in a file, or check that golds verify against themselves"
    )
    grade.add_argument(
        "pairs", nargs="?", help="JSON lines with `gold` and `response` (and `id`, `benchmark`)"
    )
    grade.add_argument("--out", help="where the verdicts go, one a line in the same order")
    grade.add_argument("--profile", choices=["strict", "paper"], default="strict", help="default strict")
    grade.add_argument(
        "--workers", type=int, default=0, help="processes for undecided answers (default 0: none)"
    )
    grade.add_argument(
        "--self-check", metavar="DATASET", help="list golds that do not verify against themselves"
    )
    grade.set_defaults(run=run_grade)

    data = commands.add_parser("data", help="prepare and inspect data sets")
    data_commands = data.add_subparsers(title="commands", required=True, metavar="COMMAND")
    diagrams = data_commands.add_parser(
        "diagrams", help="write the built-in diagrams as parquet, a file per split"
    )
    diagrams.add_argument("folder", help="where train, validation and test.parquet go")
    diagrams.add_argument("--seed", type=int, default=0, help="another seed gives other pictures (default 0)")
    diagrams.set_defaults(run=run_diagrams)

    report = commands.add_parser("report", help="write a run's page, report.html")
    report.add_argument("run_folder", help="for example runs/demo")
    report.set_defaults(run=run_report)

    return parser


def _add_eval(commands: Any) -> None:
    parser = commands.add_parser("eval", help="n samples per question, Pass@1 with its 95%% interval")
    parser.add_argument("model", help="a model folder, a checkpoint's huggingface folder, or a hub id")
    parser.add_argument("--data", required=True, help="file, folder or hub id, in EasyR1's columns")
    parser.add_argument("--out", required=True, help="folder for results.json, samples.jsonl and pictures")
    parser.add_argument("--n", type=int, default=16, help="samples per question (default 16)")
    parser.add_argument("--temperature", type=float, default=0.5, help="0 is greedy (default 0.5)")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus sampling (default 1: off)")
    parser.add_argument("--max-tokens", type=int, default=2048, help="tokens per answer (default 2048)")
    parser.add_argument(
        "--max-prompt-tokens", type=int, default=2048, help="longer questions are an error (2048)"
    )
    parser.add_argument("--format-prompt", default="math", help="template name or jinja file (default math)")
    parser.add_argument("--min-pixels", type=int, default=262_144, help="smaller pictures grow (0: never)")
    parser.add_argument("--max-pixels", type=int, default=4_194_304, help="larger pictures shrink (0: never)")
    parser.add_argument("--seed", type=int, default=1, help="each sample's seed comes from it (default 1)")
    parser.add_argument(
        "--pictures",
        choices=["as_is", "blank", "wrong"],
        default="as_is",
        help="controls: grey, or another's",
    )
    parser.set_defaults(run=run_eval)


def run_eval(options: argparse.Namespace) -> int:
    from pathlib import Path

    quiet_libraries()
    from gmpo_vl.data.rows import Columns
    from gmpo_vl.data.templates import load_template
    from gmpo_vl.evaluation.evaluate import evaluate
    from gmpo_vl.models.loading import load_for_inference, model_folder
    from gmpo_vl.models.processing import load_processor
    from gmpo_vl.models.prompts import PromptSettings, load_prompts
    from gmpo_vl.progress import phase_bar
    from gmpo_vl.rollout.types import Sampling

    folder = model_folder(options.model)
    processor = load_processor(folder)
    settings = PromptSettings(
        Columns(),
        load_template(options.format_prompt),
        options.min_pixels or None,
        options.max_pixels or None,
        options.max_prompt_tokens,
        drop_overlong=False,
    )
    prompts = load_prompts(options.data, settings, processor)
    sampling = Sampling(options.n, options.max_tokens, options.temperature, options.top_p, seed=options.seed)
    with phase_bar("questions", len(prompts)) as advance:
        result = evaluate(
            load_for_inference(folder),
            processor,
            prompts,
            sampling,
            pictures=options.pictures,
            folder=Path(options.out),
            progress=advance,
        )
    summary = result.summary()
    print(f"{len(prompts)} questions x {options.n} samples: Pass@1 {result.pass_at_1().percent()}")
    print(f"cut off {summary['truncated']:.1%}, no answer {summary['no_answer']:.1%}, in {options.out}")
    return 0


def run_grade(options: argparse.Namespace) -> int:
    from gmpo_vl.verify import grade

    if options.self_check:
        failures = grade.self_check(options.self_check, options.profile)
        for row, gold, outcome in failures:
            print(f"row {row}: {gold!r}: {outcome}")
        print(f"{len(failures)} golds do not verify against themselves")
        return 1 if failures else 0
    if not options.pairs or not options.out:
        raise ValueError("grade needs PAIRS.jsonl and --out VERDICTS.jsonl, or --self-check DATASET")
    counts = grade.grade_file(options.pairs, options.out, options.profile, options.workers)
    print(grade.summary(counts))
    return 0


def run_diagrams(options: argparse.Namespace) -> int:
    from gmpo_vl.data.diagrams import export

    for path in export(options.folder, seed=options.seed):
        print(path)
    return 0


def run_train(options: argparse.Namespace) -> int:
    from gmpo_vl.config import load_config, placement_notice

    quiet_libraries()
    config = load_config(options.config, options.overrides)
    if options.dry_run:
        from gmpo_vl.engines.local.plan import dry_run

        print(dry_run(config))
        return 0
    from gmpo_vl.engines.local.trainer import train

    notice = placement_notice(config)
    if notice:
        print(notice)
    train(config)
    return 0


def quiet_libraries() -> None:
    """The libraries' own bars and hints off: a run says itself what it does. Their errors stay."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def run_report(options: argparse.Namespace) -> int:
    from gmpo_vl.report import write_report

    print(write_report(options.run_folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
