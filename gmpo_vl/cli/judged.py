"""`gmpo-vl eval judge`: a judge model's verdicts on stored answers, beside the rules'."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.cli.finished import yaml_options
from gmpo_vl.cli.result_words import print_results
from gmpo_vl.progress import quiet_libraries

if TYPE_CHECKING:
    from gmpo_vl.evaluation.judged.write import Judging, Request


def add_judge(parts: Any) -> None:
    """Register it with `gmpo-vl eval`'s parser."""
    judge = parts.add_parser(
        "judge", help="ask a judge model about stored answers: a second result beside the rules'"
    )
    judge.add_argument(
        "results", nargs="+", type=Path, help="OUT/NAME, or OUT for all in it that are not judged"
    )
    judge.add_argument("--model", required=True, help="name by which the endpoint knows the judge")
    judge.add_argument(
        "--base-url", help="an OpenAI-compatible endpoint, such as http://localhost:8000/v1 (OpenAI's)"
    )
    judge.add_argument(
        "--options",
        type=yaml_options,
        default={},
        help="of the reward judge (`gmpo-vl rewards judge`), such as '{api_key_env: null, concurrency: 32}'",
    )
    judge.add_argument(
        "--only-refused",
        action="store_true",
        help="ask only about answers that the rules call wrong: cheaper, but the judge can then only add",
    )
    judge.add_argument(
        "--out", type=new_path, help="results go to OUT/NAME+judge=MODEL-HASH (beside the one that is judged)"
    )
    judge.set_defaults(run=run_judge)


def run_judge(options: argparse.Namespace) -> int:
    """One judged result a result. All are checked before a question is asked."""
    quiet_libraries()
    from gmpo_vl.evaluation.judged.write import Request

    request = Request(options.model, options.base_url, options.options, options.only_refused, options.out)
    for judging in _prepared(options.results, request):
        _judge_one(judging)
    return 0


def _prepared(paths: Sequence[Path], request: Request) -> list[Judging]:
    from gmpo_vl.evaluation.judged.write import is_judged, prepare
    from gmpo_vl.evaluation.results import result_folders

    found = [
        prepare(folder, request)
        for folder in result_folders(paths)
        if folder.folder in paths or not is_judged(folder)
    ]
    by_place = {judging.folder.folder.absolute(): judging for judging in found}
    for judging in found:
        other = by_place[judging.folder.folder.absolute()]
        if other is not judging:
            raise ValueError(
                f"{judging.source.folder} and {other.source.folder} would both be judged into "
                f"{judging.folder.folder}: give each a command and an --out of its own"
            )
    if not found:
        raise ValueError(f"{paths[0]}: every result here is a judged one")
    return found


def _judge_one(judging: Judging) -> None:
    from gmpo_vl.evaluation.judged.write import write_judged
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    place = judging.folder.folder
    with locked(place, OF_AN_EVALUATION):
        results, new = write_judged(judging)
        write_result_page(judging.folder)
    print_results(results, place)
    print(f"  {new:,} new replies; the others were in the cache, or the same question")
