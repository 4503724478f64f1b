"""`gmpo-vl eval import | export`: other harnesses' answers graded here, and ours in their form."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.cli.finished import add_columns, columns_of, yaml_options
from gmpo_vl.cli.result_words import print_results
from gmpo_vl.progress import quiet_libraries

if TYPE_CHECKING:
    from gmpo_vl.evaluation.imported.write import Import


def add_import_commands(parts: Any) -> None:
    """Register both with `gmpo-vl eval`'s parser."""
    given = parts.add_parser("import", help="grade answers that lmms-eval or VLMEvalKit sampled")
    given.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="lmms-eval's DATE_samples_TASK.jsonl, VLMEvalKit's MODEL_DATASET.xlsx, .tsv or .json",
    )
    given.add_argument("--out", type=new_path, required=True, help="results go to OUT/NAME-imported")
    given.add_argument("--name", help="of the result (the task's); `-imported` is put behind it")
    given.add_argument(
        "--protocol",
        help="the benchmark that was asked, such as wemath: its data is joined, and its scores are counted "
        "by our verdicts and by the harness's",
    )
    given.add_argument(
        "--data",
        help="rows that were asked: file, folder or hub id; joined by doc_id (the row's number) or index "
        "(its id), for choices, tolerances and ids; the protocol's, or a folder that holds it",
    )
    given.add_argument(
        "--grader", help="strict, paper, or a reward (the protocol's; an export's own; strict)"
    )
    given.add_argument(
        "--grader-options", type=yaml_options, default=None, help="the reward's, such as '{tolerance: 0.02}'"
    )
    given.add_argument(
        "--official",
        metavar="KEY",
        help="the metric or column with the harness's verdicts (the first one that has any); none: without",
    )
    add_columns(given)
    given.set_defaults(run=run_import)

    export = parts.add_parser("export", help="a result's samples in another harness's form")
    export.add_argument("result", type=Path, help="OUT/NAME, or OUT with one in it")
    export.add_argument("--to", choices=["lmms-eval"], default="lmms-eval", help="the form (lmms-eval)")
    export.add_argument("--out", type=new_path, required=True, help="the file, such as samples_TASK.jsonl")
    export.set_defaults(run=run_export)


def run_import(options: argparse.Namespace) -> int:
    """One result a file. A file that cannot be imported is told, and the others are."""
    quiet_libraries()
    if options.name is not None and len(options.files) > 1:
        raise ValueError("--name is of one result, and there are several files: leave it out")
    failed = 0
    for file in options.files:
        try:
            _import_one(file, options)
        except (ValueError, OSError) as error:
            if len(options.files) == 1:
                raise
            print(f"gmpo-vl: {error}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def _import_one(file: Path, options: argparse.Namespace) -> None:
    from gmpo_vl.evaluation.imported.files import open_answers
    from gmpo_vl.evaluation.imported.write import result_name, write_imported
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.progress import phase_bar
    from gmpo_vl.runs import EvaluationFolder
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    request = _request(file, options)
    reader = open_answers(request.file, request.official)
    folder = EvaluationFolder(options.out / result_name(request, reader))
    with locked(folder.folder, OF_AN_EVALUATION):
        with phase_bar(folder.folder.name, None) as advance:
            results = write_imported(request, reader, folder, advance)
        write_result_page(folder)
    print_results(results, folder.folder)


def _request(file: Path, options: argparse.Namespace) -> Import:
    """Raises ValueError or FileNotFoundError for a protocol or its data that cannot be."""
    from gmpo_vl.evaluation.imported.write import Import
    from gmpo_vl.evaluation.protocol_files import source_of
    from gmpo_vl.evaluation.protocols import SUITES, load_protocol

    if options.protocol in SUITES:
        raise ValueError(f"--protocol {options.protocol} is a suite: a file has one benchmark's answers")
    protocol = load_protocol(options.protocol) if options.protocol else None
    data, grader, of_reward = options.data, options.grader, options.grader_options
    if protocol is not None:
        data = source_of(options.data, protocol.data) or protocol.data
        if grader is None:
            grader, of_reward = protocol.grader, of_reward or protocol.grader_options
    columns = columns_of(options)
    return Import(*(file, options.name, data, columns, grader, of_reward or {}, options.official, protocol))


def run_export(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.imported.export import export_lmms_eval
    from gmpo_vl.evaluation.results import one_result

    questions = export_lmms_eval(one_result(options.result), options.out)
    print(f"{options.out}: {questions:,} questions in the form of {options.to}")
    return 0
