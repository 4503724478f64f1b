"""`gmpo-vl eval run | protocols`: answers by protocol. Heavy imports wait until a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.cli.finished import (
    OPTIONS_OF_DATA,
    add_columns,
    add_result_commands,
    columns_of,
    yaml_options,
)
from gmpo_vl.cli.imported import add_import_commands
from gmpo_vl.cli.judged import add_judge
from gmpo_vl.cli.result_words import print_results
from gmpo_vl.progress import quiet_libraries

if TYPE_CHECKING:
    from gmpo_vl.evaluation.prepare import Prepared
    from gmpo_vl.runs import EvaluationFolder

_CALLED = OPTIONS_OF_DATA | {"on_bad_row": "--on-bad-row"}
COMMANDS = ("run", "merge", "regrade", "compare", "table", "page", "judge", "import", "export", "protocols")


# Fields of a protocol that can be given another value; the result's name then says so.
_OVERRIDES: dict[str, tuple[Callable[[str], Any], str]] = {
    "template": (str, "chat (the model's own), qwen_math, no or r1"),
    "format_prompt": (str, "template around the problem: a name of gmpo_vl.data, or a jinja file"),
    "n": (int, "answers to each question, or episodes of each game"),
    "temperature": (float, "0 is greedy"),
    "top_p": (float, "nucleus sampling; 1 is off"),
    "top_k": (int, "most likely tokens to draw from; -1 is off"),
    "max_tokens": (int, "tokens of an answer"),
    "max_prompt_tokens": (int, "longer questions are an error"),
    "min_pixels": (int, "smaller pictures are enlarged"),
    "max_pixels": (int, "larger pictures are reduced"),
    "seed": (int, "each answer's seed comes from it"),
    "grader": (
        str,
        "whose verdicts count: strict (of data other than the protocol's), paper, or a reward: a built-in "
        "one's name, or FILE.py:FUNCTION",
    ),
    "grader_options": (yaml_options, "the reward's, for example '{tolerance: 0.02}'"),
    "pictures": (str, "controls: blank (grey) or wrong (another question's, or another game's first)"),
    "limit": (int, "the first questions only"),
    "on_bad_row": (str, "skip leaves out rows that cannot be used, and counts them; otherwise error"),
}


def with_default_command(arguments: Sequence[str]) -> list[str]:
    """`eval MODEL ...` is `eval run MODEL ...`."""
    arguments = list(arguments)
    if "eval" in arguments[:2]:
        at = arguments.index("eval") + 1
        if at < len(arguments) and arguments[at] not in (*COMMANDS, "-h", "--help"):
            arguments.insert(at, "run")
    return arguments


def add_eval(commands: Any) -> None:
    parser = commands.add_parser(
        "eval",
        help="answers by protocol, verified, with intervals",
        usage="gmpo-vl eval MODEL [--protocol NAME] [--data SOURCE] [--out FOLDER] ...\n       gmpo-vl eval {"
        + ",".join(COMMANDS)
        + "} ...",
        epilog="The options of an evaluation: `gmpo-vl eval run --help`.",
    )
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", prog="gmpo-vl eval")
    _add_run(parts)
    add_result_commands(parts)
    add_judge(parts)
    add_import_commands(parts)
    protocols = parts.add_parser("protocols", help="list the protocols, or show one")
    protocols.add_argument("protocol", nargs="?", help="a name or a file")
    protocols.set_defaults(run=run_protocols)


def _add_run(parts: Any) -> None:
    run = parts.add_parser("run", help="evaluate a model (also without the word run)")
    run.add_argument("model", help="a model folder, a checkpoint's huggingface folder, or a hub id")
    run.add_argument(
        "--protocol",
        help="a name or a suite (`gmpo-vl eval protocols` lists both), or a file of your own "
        "(without --data: geometry3k)",
    )
    run.add_argument(
        "--data",
        help="file, folder or hub id: your own data, or with --protocol instead of the protocol's; "
        "or a folder that holds its file; with a suite such a folder only",
    )
    run.add_argument("--out", type=new_path, help="results go to OUT/NAME (runs/eval/MODEL)")
    run.add_argument("--shard", type=_shard, metavar="i/k", help="the i-th of k parts; join with merge")
    run.add_argument(
        "--workers", type=int, default=1, help="processes, one GPU each where there are GPUs (1)"
    )
    run.add_argument(
        "--ray",
        type=int,
        default=0,
        metavar="N",
        help="N Ray actors instead, one GPU each, on one machine or on RAY_ADDRESS's",
    )
    run.add_argument(
        "--backend",
        default="transformers",
        help="what answers: transformers (default), vllm, or auto: "
        "vllm where it is installed and there is a GPU",
    )
    run.add_argument(
        "--tensor-parallel",
        type=int,
        default=1,
        metavar="N",
        help="GPUs that share one copy of the model, with --backend vllm (1): "
        "for models that one GPU does not hold",
    )
    add_columns(run)
    changes = run.add_argument_group("other values than usual or the protocol's; the result's name says so")
    for field, (kind, text) in _OVERRIDES.items():
        changes.add_argument(f"--{field.replace('_', '-')}", dest=field, type=kind, help=text)
    run.set_defaults(run=run_eval)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/k, for example 1/4")
    return int(index), int(count)


def run_eval(options: argparse.Namespace) -> int:
    """Every protocol of the suite, one after the other; of the text sets the mean, too."""
    from gmpo_vl.evaluation.backends import backend_here
    from gmpo_vl.evaluation.protocol_files import check_suite
    from gmpo_vl.evaluation.protocols import SUITES

    if options.backend == "auto":
        options.backend, why = backend_here(_model_folder(options.model))
        print(f"answers come from {options.backend}: {why}", flush=True)
    finished = []
    protocol = options.protocol if options.protocol or options.data else "geometry3k"
    if protocol in SUITES:
        check_suite(protocol, options.data)
    for name in SUITES.get(protocol, (protocol,)):
        of_one = {"protocol": name, "suite": protocol in SUITES}
        try:
            result = _run_one(argparse.Namespace(**{**vars(options), **of_one}))
        except ChildProcessError as error:
            print(f"gmpo-vl: {error}", file=sys.stderr)
            return 1
        if result is not None:
            finished.append(result["pass@1"])
    if protocol == "text" and len(finished) > 1:
        mean = sum(finished) / len(finished)
        print(f"unweighted mean of {len(finished)} sets: {100 * mean:.1f}")
    return 0


def _run_one(options: argparse.Namespace) -> dict[str, Any] | None:
    """One protocol; its results, or None for a shard."""
    from gmpo_vl.evaluation.prepare import open_evaluation
    from gmpo_vl.evaluation.result_page import write_result_page
    from gmpo_vl.evaluation.results import finish
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    if options.workers < 1 or options.ray < 0:
        raise ValueError(f"--workers {options.workers} --ray {options.ray}: numbers of processes")
    if (options.workers > 1) + (options.ray > 0) + (options.shard is not None) > 1:
        raise ValueError("--workers, --ray and --shard are three ways to share the work: give one of them")
    prepared = _prepare(options)
    place = (options.out or default_out(options.model)) / prepared.protocol.name
    with locked(place, OF_AN_EVALUATION, shared=options.shard is not None):  # shards answer side by side
        prepared, folder = open_evaluation(prepared, place)
        if not folder.finished:
            _answer_all(prepared, folder, options)
        if options.shard is not None:
            shard = "/".join(map(str, options.shard))
            print(f"{place}: shard {shard} is done; join with `gmpo-vl eval merge`")
            return None
        results = finish(folder)
        write_result_page(folder)
    print_results(results, place)
    return results


def _answer_all(prepared: Prepared, folder: EvaluationFolder, options: argparse.Namespace) -> None:
    """Every chunk, or a shard's, in this process or in several."""
    from gmpo_vl.evaluation.answering import answer_chunks
    from gmpo_vl.evaluation.sharing import run_actors, run_workers
    from gmpo_vl.progress import phase_bar

    shard = options.shard or (1, 1)
    mine = sum(len(prepared.chunk(number)) for number in prepared.shard(shard))
    with phase_bar(prepared.protocol.name, mine, lines=True) as advance:
        if options.ray:
            run_actors(prepared, folder, options.ray, advance)
        elif options.workers > 1:
            run_workers(prepared, folder, options.workers, advance)
        else:
            answer_chunks(prepared, folder, shard, advance)


def _prepare(options: argparse.Namespace) -> Prepared:
    quiet_libraries()
    from gmpo_vl.evaluation.backends import BackendChoice
    from gmpo_vl.evaluation.prepare import Request, prepare
    from gmpo_vl.evaluation.protocol_files import source_in_suite, source_of
    from gmpo_vl.evaluation.protocols import load_protocol, override, protocol_of_data

    changes = {field: getattr(options, field) for field in _OVERRIDES if getattr(options, field) is not None}
    named = options.protocol is not None
    protocol = load_protocol(options.protocol) if named else protocol_of_data(options.data)
    protocol = override(protocol, changes)
    copies = options.shard[1] if options.shard is not None else max(options.workers, options.ray)
    find = source_in_suite if options.suite else source_of
    return prepare(
        Request(
            options.model,
            _model_folder(options.model),
            protocol,
            replace(columns_of(options), called=_CALLED.get),
            BackendChoice(options.backend, options.tensor_parallel, copies),
            find(options.data, protocol.data) if named else None,
            # a published grader knows nothing of a gold's choices, tolerance or type
            {"grader": "strict"} if protocol.grader == "paper" and not options.grader else {},
        )
    )


def _model_folder(model: str) -> Path:
    from gmpo_vl.models.loading import NoModelFolder, model_folder

    try:
        return model_folder(model)
    except NoModelFolder as error:
        raise FileNotFoundError(f"no such model folder: {error.reason}") from error


def default_out(model: str) -> Path:
    """runs/eval/MODEL, where a run's checkpoint is called RUN-step_N."""
    parts = [part for part in Path(model).parts if part not in ("huggingface", "checkpoints", "/", "..", ".")]
    name = "-".join(parts[-2:]) if parts and parts[-1].startswith("step_") else (parts or ["model"])[-1]
    return Path("runs/eval") / name


def run_protocols(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.protocols import SUITES, load_protocol, protocol_names

    if options.protocol in SUITES:
        print(f"{options.protocol} is a suite, of {', '.join(SUITES[options.protocol])}: name one of them")
        return 0
    if options.protocol is not None:
        for key, value in asdict(load_protocol(options.protocol)).items():
            print(f"{key}: {value}")
        return 0
    for name in protocol_names():
        print(f"{name:19} {load_protocol(name).about.split('. ')[0]}")
    for name, parts in SUITES.items():
        print(f"{name:19} all of {', '.join(parts)}")
    return 0
