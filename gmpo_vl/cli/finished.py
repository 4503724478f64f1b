"""`gmpo-vl grade`, `eval merge | regrade | compare | table | page`, `data difficulty`: from given answers."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.cli.data import at_least, new_path
from gmpo_vl.cli.result_words import comparison_in_words, print_results, suites_in_words
from gmpo_vl.progress import quiet_libraries

if TYPE_CHECKING:
    from gmpo_vl.data.rows import Columns
    from gmpo_vl.types import Verdict
    from gmpo_vl.verify.grade import Judge

COLUMN_KEYS = ("prompt_key", "answer_key", "image_key", "image_dir", "id_key")
OPTIONS_OF_DATA = {key: f"--{key.replace('_', '-')}" for key in COLUMN_KEYS} | {
    "max_prompt_length": "--max-prompt-tokens",
    "max_pixels": "--max-pixels",
}


def yaml_options(text: str) -> dict[str, Any]:
    """The type of an option, for argparse: {name: value, ...} in YAML or JSON."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)  # the core has no PyYAML
    except (ValueError, RecursionError):
        value = _from_yaml(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no {{name: value, ...}}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")  # which YAML's error names
    return found


def _from_yaml(text: str) -> Any:
    try:
        from gmpo_vl.storage.yaml_text import read_yaml

        return read_yaml(text)
    except ModuleNotFoundError as error:
        said = f"{text!r} is no JSON, and reading YAML needs {error.name}: pip install 'gmpo-vl[eval]'"
        raise argparse.ArgumentTypeError(said) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {error}") from error


def add_grade(commands: Any) -> None:
    parser = commands.add_parser(
        "grade", help="verify answers in a file, or check that golds verify against themselves"
    )
    parser.add_argument(
        "pairs", nargs="?", help="JSON lines with `gold` and `response` (and `id`, `benchmark`)"
    )
    parser.add_argument(
        "--out", type=new_path, help="a file for the verdicts, one a line in the same order (the terminal)"
    )
    parser.add_argument(
        "--answer-in",
        choices=["box", "tag", "any"],
        default="box",
        help="\\boxed{} (default), <answer>, or any: these, where it is stated, a response of one line",
    )
    parser.add_argument("--profile", choices=["strict", "paper"], default="strict", help="default strict")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes for undecided answers (default 0: none)"
    )
    parser.add_argument(
        "--reward",
        metavar="NAME",
        help="grade as this reward pays: a built-in one's name, or FILE.py:FUNCTION",
    )
    parser.add_argument(
        "--reward-options", type=yaml_options, metavar="OPTIONS", help="such as '{tolerance: 0.02}'"
    )
    parser.add_argument(
        "--self-check", metavar="DATASET", help="list golds that do not verify against themselves"
    )
    parser.set_defaults(run=run_grade)


def run_grade(options: argparse.Namespace) -> int:
    from gmpo_vl.verify import grade, self_check

    if options.self_check:
        if options.pairs or options.out:
            raise ValueError(
                "grade --self-check DATASET asks about a data set's own answers: "
                "no PAIRS.jsonl and no --out with it"
            )
        failures = self_check.self_check(options.self_check, options.profile)
        print("\n".join([*map(str, failures), self_check.summary(failures)]))
        if options.profile == "strict" and (narrow := self_check.narrow_golds(options.self_check)):
            print("\n".join(["", *self_check.in_words(narrow)]))
        return 1 if failures else 0
    if options.reward is None and options.reward_options is not None:
        raise ValueError("--reward-options are a reward's: give --reward with them")
    if options.reward and (options.answer_in, options.profile, options.workers) != ("box", "strict", 0):
        raise ValueError(
            "--answer-in, --profile and --workers are the verifier's; what a reward takes stands in "
            "--reward-options"
        )
    if not options.pairs:
        raise ValueError("grade needs PAIRS.jsonl, or --self-check DATASET")
    judge = (
        _judge_of(options.reward, options.reward_options)
        if options.reward
        else grade.Verifier(options.profile, options.answer_in, options.workers)
    )
    counts = grade.grade_file(options.pairs, options.out, judge, partial(print, file=sys.stderr))
    print(grade.summary(counts))
    return 0


def _judge_of(name: str, options: dict[str, Any] | None) -> Judge:
    """What grades pairs as the reward pays, a response's length counted in characters. Raises ValueError for
    a reward that asks for what pairs do not have."""
    from gmpo_vl.data.answers import encode_answer
    from gmpo_vl.rewards.loading import load_reward
    from gmpo_vl.rollout.scoring import judged
    from gmpo_vl.types import Example, Verdict

    reward = load_reward(name, options)
    if reward.asks:
        raise ValueError(
            f"the reward {name} asks for {', '.join(reward.asks)} of the row, and pairs hold a gold and a "
            f"response only: `gmpo-vl eval MODEL --data SOURCE --grader {name}` grades with the rows"
        )

    def judge(pairs: Sequence[dict[str, Any]]) -> list[tuple[Verdict, dict[str, float]]]:
        golds = [gold if isinstance(gold := pair["gold"], str) else encode_answer(gold) for pair in pairs]
        asked = [
            (Example(str(pair["id"]), "", gold), [(pair["response"], len(pair["response"]))])
            for pair, gold in zip(pairs, golds)
        ]
        found = reward.scored(asked)
        seconds = [verdict.seconds if verdict is not None else 0.0 for _, verdict in found]
        return [
            (Verdict(**judged(score, verdict), seconds=spent), score)
            for (score, verdict), spent in zip(found, seconds)
        ]

    return judge


def add_result_commands(parts: Any) -> None:
    merge = parts.add_parser("merge", help="join the chunks of shards and write the results")
    merge.add_argument(
        "folders", nargs="+", type=Path, help="OUT/NAME of each shard; the first takes the others' chunks"
    )
    merge.set_defaults(run=run_merge)

    regrade = parts.add_parser("regrade", help="grade stored answers again, without generating")
    regrade.add_argument("--processes", type=at_least(1), help="verifier processes (one a core)")
    regrade.set_defaults(run=run_regrade)

    compare = parts.add_parser("compare", help="b against a, paired by question and seed")
    sides = {"nargs": "+", "type": Path, "required": True}
    compare.add_argument(
        "--a", **sides, help="OUT/NAME of the first, or OUT of one or of a suite, a training seed each"
    )
    compare.add_argument("--b", **sides, help="the second's, in the same order of seeds")
    compare.add_argument(
        "--page", type=new_path, metavar="FILE.html", help="write the comparison, with controls, as a page"
    )
    graders = ["overall", "strict", "paper", "official"]
    compare.add_argument(
        "--grader",
        choices=graders,
        default="overall",
        help="whose verdicts (the protocol's); official: those of the harness that was imported from",
    )
    compare.set_defaults(run=run_compare)

    table = parts.add_parser("table", help="rows of the paper's Tables 1, 2 and 6, beside its figures")
    table.set_defaults(run=run_table)

    page = parts.add_parser("page", help="write result.html again")
    page.add_argument("--questions", type=at_least(0), help="shown in the gallery (150, or 24 games)")
    page.set_defaults(run=run_page)

    for parser in (regrade, table, page):
        parser.add_argument("results", nargs="+", type=Path, help="OUT/NAME, or OUT for all in it")


def run_merge(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.evaluation.results import merge
    from gmpo_vl.runs import EvaluationFolder
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    first = EvaluationFolder(options.folders[0])
    if not first.plan_file.exists():  # no folder is made for a name that was mistyped
        raise FileNotFoundError(f"{first.folder} holds no evaluation: no plan.json")
    with locked(first.folder, OF_AN_EVALUATION):
        results = merge(options.folders)
        write_result_page(first)
    print_results(results, first.folder)
    return 0


def run_regrade(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.grading import regrade_folder
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.evaluation.results import result_folders
    from gmpo_vl.progress import phase_bar
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    for folder in result_folders(options.results):
        start = time.perf_counter()
        with locked(folder.folder, OF_AN_EVALUATION):
            before = folder.results()
            with phase_bar(folder.folder.name, before["questions"] * before["n"]) as advance:
                answers, changed = regrade_folder(folder, options.processes, advance)
            seconds = time.perf_counter() - start
            write_result_page(folder)
        print(
            f"{folder.folder}: {answers:,} answers in {seconds:.1f} s ({answers / seconds:,.0f} a second), "
            f"{changed:,} verdicts changed, "
            f"Pass@1 {100 * before['pass@1']:.1f} -> {100 * folder.results()['pass@1']:.1f}"
        )
    return 0


def run_compare(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.comparison import compare
    from gmpo_vl.evaluation.results import one_result
    from gmpo_vl.evaluation.suites import is_suite

    if options.page is not None or is_suite([*options.a, *options.b]):
        return _compare_suites(options)
    sides = [list(map(one_result, paths)) for paths in (options.a, options.b)]
    print(comparison_in_words(compare(*sides, grader=options.grader)))
    return 0


def _compare_suites(options: argparse.Namespace) -> int:
    """1 where both sides have a benchmark that could not be compared."""
    from gmpo_vl.evaluation.suite_page import write_suite_page
    from gmpo_vl.evaluation.suites import compare_suites, read_side

    page: Path | None = options.page
    if page is not None and page.suffix != ".html":
        raise ValueError(f"--page {page}: name a file that ends in .html")
    sides = [read_side(paths) for paths in (options.a, options.b)]
    found = compare_suites(*sides, grader=options.grader, controls=page is not None)
    print(suites_in_words(found))
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        print(write_suite_page(page, found, options.grader))
    return 1 if found.refused else 0


def run_table(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.paper_tables import tables
    from gmpo_vl.evaluation.results import result_folders

    print(tables(folder.results() for folder in result_folders(options.results)))
    return 0


def run_page(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.evaluation.results import result_folders
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    for folder in result_folders(options.results):
        with locked(folder.folder, OF_AN_EVALUATION):
            print(write_result_page(folder, options.questions))
    return 0


def add_difficulty(parts: Any) -> None:
    """`gmpo-vl data difficulty`."""
    parser = parts.add_parser("difficulty", help="an evaluation's samples to a pass_rate column")
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        help="OUT/NAME, or OUT of one, of evaluations of this data; samples are put together",
    )
    parser.add_argument("--data", required=True, help="the rows: file, folder or hub id")
    parser.add_argument("--out", required=True, type=new_path, help="a .parquet or .jsonl file")
    for which, word, example in (("lowest", "least", 0.1), ("highest", "most", 0.9)):
        parser.add_argument(
            f"--{which}", type=float, help=f"keep rows with at {word} this pass rate, for example {example}"
        )
    add_columns(parser)
    parser.set_defaults(run=run_difficulty)


def run_difficulty(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.difficulty import write_difficulty
    from gmpo_vl.evaluation.results import one_result

    quiet_libraries()
    samples = (record for path in options.results for record in one_result(path).samples())
    rows, rated = write_difficulty(
        samples, options.data, options.out, columns_of(options), options.lowest, options.highest
    )
    print(f"{options.out}: {rows:,} rows, {rated:,} of them with a pass rate")
    return 0


def add_columns(parser: Any) -> None:
    group = parser.add_argument_group("columns of --data, where they are not EasyR1's")
    for key in COLUMN_KEYS:
        group.add_argument(OPTIONS_OF_DATA[key], help=f"EasyR1's data.{key}")


def columns_of(options: argparse.Namespace) -> Columns:
    """As the options of `add_columns` say. Messages about the data then name these options."""
    from gmpo_vl.data.rows import Columns

    given = {key: getattr(options, key) for key in COLUMN_KEYS if getattr(options, key) is not None}
    return Columns(**given, called=OPTIONS_OF_DATA.get)
