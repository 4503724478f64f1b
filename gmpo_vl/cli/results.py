"""`gmpo-vl eval merge | regrade | compare | table | page` and `gmpo-vl data difficulty`: what is done with finished results."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import at_least, new_path
from gmpo_vl.progress import quiet_libraries


def add_result_commands(parts: Any) -> None:
    merge = parts.add_parser("merge", help="join the chunks of shards and write the results")
    merge.add_argument(
        "folders", nargs="+", type=Path, help="OUT/NAME of each shard; the first takes the others' chunks"
    )
    merge.set_defaults(run=run_merge)

    regrade = parts.add_parser("regrade", help="grade stored answers again, without generating")
    regrade.add_argument("results", nargs="+", type=Path, help="OUT/NAME, or OUT for all in it")
    regrade.add_argument("--processes", type=at_least(1), help="verifier processes (one a core)")
    regrade.set_defaults(run=run_regrade)

    compare = parts.add_parser("compare", help="b against a, paired by question and seed")
    compare.add_argument(
        "--a", nargs="+", type=Path, required=True, help="OUT/NAME of the first, one per training seed"
    )
    compare.add_argument(
        "--b", nargs="+", type=Path, required=True, help="the second's, in the same order of seeds"
    )
    compare.add_argument(
        "--grader",
        choices=["overall", "strict", "paper"],
        default="overall",
        help="whose verdicts (the protocol's)",
    )
    compare.set_defaults(run=run_compare)

    table = parts.add_parser("table", help="rows of the paper's Tables 1 and 2, beside its figures")
    table.add_argument("results", nargs="+", type=Path, help="OUT/NAME, or OUT for all in it")
    table.set_defaults(run=run_table)

    page = parts.add_parser("page", help="write result.html again")
    page.add_argument("results", nargs="+", type=Path, help="OUT/NAME, or OUT for all in it")
    page.add_argument("--questions", type=at_least(0), default=150, help="shown in the gallery (150)")
    page.set_defaults(run=run_page)


def add_difficulty(parts: Any) -> None:
    """`gmpo-vl data difficulty`."""
    parser = parts.add_parser("difficulty", help="an evaluation's samples to a pass_rate column")
    parser.add_argument(
        "results", nargs="+", type=Path, help="OUT/NAME of evaluations of this data; samples are put together"
    )
    parser.add_argument("--data", required=True, help="the rows: file, folder or hub id")
    parser.add_argument("--out", required=True, type=new_path, help="a .parquet or .jsonl file")
    parser.add_argument(
        "--lowest", type=float, help="keep rows with at least this pass rate, for example 0.1"
    )
    parser.add_argument(
        "--highest", type=float, help="keep rows with at most this pass rate, for example 0.9"
    )
    add_columns(parser)
    parser.set_defaults(run=run_difficulty)


def add_columns(parser: Any) -> None:
    group = parser.add_argument_group("columns of --data, where they are not EasyR1's")
    for key in COLUMN_KEYS:
        group.add_argument(f"--{key.replace('_', '-')}", help=f"EasyR1's data.{key}")


COLUMN_KEYS = ("prompt_key", "answer_key", "image_key", "image_dir", "id_key")


def columns_of(options: argparse.Namespace) -> Any:
    from gmpo_vl.data.rows import Columns

    return Columns(**{key: getattr(options, key) for key in COLUMN_KEYS if getattr(options, key) is not None})


def print_results(results: dict[str, Any], folder: Path) -> None:
    """The figures of one evaluation, and what is to be known about them."""
    low, high = results["ci95"]
    print(f"{results['name']}: {results['questions']} questions x {results['n']}")
    print(f"  Pass@1 {100 * results['pass@1']:.1f}  (95% interval {100 * low:.1f} to {100 * high:.1f})")
    for kind in ("pass@k", "maj@k"):
        if kind in results:
            parts = [f"@{k} {100 * e['value']:.1f}" for k, e in results[kind].items()]
            print(f"  {kind:6}  {'  '.join(parts)}")
    other = {
        name: e["value"] for name, e in results["graders"].items() if name != results["settings"]["grader"]
    }
    for name, value in other.items():
        print(f"  graded {name} instead: {100 * value:.1f}  (disputed answers: {results['disputed']:.1%})")
    print(
        f"  cut off {results['truncated']:.1%}, no answer {results['no_answer']:.1%}, verifier time-outs "
        f"{results['timeouts']}, mean length {results['mean_length']:.0f} tokens"
    )
    for note in results["notes"]:
        print(f"  note: {note}")
    print(f"  {folder / 'result.html'}")


def run_merge(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.page import write_page
    from gmpo_vl.evaluation.results import merge
    from gmpo_vl.runs import EvaluationFolder
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    first = EvaluationFolder(options.folders[0])
    if not first.plan_file.exists():  # no folder is made for a name that was mistyped
        raise FileNotFoundError(f"{first.folder} holds no evaluation: no plan.json")
    with locked(first.folder, OF_AN_EVALUATION):
        results = merge(options.folders)
        write_page(first)
    print_results(results, options.folders[0])
    return 0


def run_regrade(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.page import write_page
    from gmpo_vl.evaluation.regrade import regrade_folder
    from gmpo_vl.evaluation.results import result_folders
    from gmpo_vl.progress import phase_bar
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    for folder in result_folders(options.results):
        start = time.perf_counter()
        with locked(folder.folder, OF_AN_EVALUATION):
            results = folder.results()
            before = results["pass@1"]
            with phase_bar(folder.folder.name, results["questions"] * results["n"]) as advance:
                regraded = regrade_folder(folder, options.processes, advance)
            seconds = time.perf_counter() - start
            write_page(folder)
        print(
            f"{folder.folder}: {len(regraded.records):,} answers in {seconds:.1f} s "
            f"({len(regraded.records) / seconds:,.0f} a second), {regraded.changed:,} verdicts changed, "
            f"Pass@1 {100 * before:.1f} -> {100 * folder.results()['pass@1']:.1f}"
        )
    return 0


def run_compare(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.compare import compare, describe
    from gmpo_vl.runs import EvaluationFolder

    sides = [[EvaluationFolder(path) for path in paths] for paths in (options.a, options.b)]
    print(describe(compare(*sides, grader=options.grader)))
    return 0


def run_table(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.results import result_folders
    from gmpo_vl.evaluation.tables import tables

    print(tables(folder.results() for folder in result_folders(options.results)))
    return 0


def run_page(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.page import write_page
    from gmpo_vl.evaluation.results import result_folders
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    for folder in result_folders(options.results):
        with locked(folder.folder, OF_AN_EVALUATION):
            print(write_page(folder, options.questions))
    return 0


def run_difficulty(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.difficulty import write_difficulty
    from gmpo_vl.runs import EvaluationFolder

    quiet_libraries()
    samples = (record for path in options.results for record in EvaluationFolder(path).samples())
    rows, rated = write_difficulty(
        samples, options.data, options.out, columns_of(options), options.lowest, options.highest
    )
    print(f"{options.out}: {rows:,} rows, {rated:,} of them with a pass rate")
    return 0
