"""`gmpo-vl eval ...`: arguments and commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.cli.results import (
    COLUMN_KEYS,
    add_columns,
    add_result_commands,
    columns_of,
    print_results,
)
from gmpo_vl.progress import quiet_libraries

COMMANDS = ("run", "merge", "regrade", "compare", "table", "page", "protocols")

# Fields of a protocol that can be given another value; the result's name then says so.
_OVERRIDES: dict[str, tuple[Callable[[str], Any], str]] = {
    "template": (str, "chat (the model's own), qwen_math, no or r1"),
    "format_prompt": (str, "template around the problem: a name of gmpo_vl.data, or a jinja file"),
    "n": (int, "answers to each question"),
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
        "whose verdicts count: strict (of data other than the protocol's) or paper; both are recorded",
    ),
    "pictures": (str, "controls: blank (grey) or wrong (another question's)"),
    "limit": (int, "the first questions only"),
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
    """Register `eval` and its commands with the command line's parser."""
    parser = commands.add_parser(
        "eval",
        help="answers by protocol, verified, with intervals",
        usage="gmpo-vl eval MODEL --protocol NAME [--data SOURCE] [--out FOLDER] ...\n       gmpo-vl eval {"
        + ",".join(COMMANDS)
        + "} ...",
    )
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(parts)
    add_result_commands(parts)
    protocols = parts.add_parser("protocols", help="list the protocols, or show one")
    protocols.add_argument("protocol", nargs="?", help="a name or a file")
    protocols.set_defaults(run=run_protocols)


def _add_run(parts: Any) -> None:
    run = parts.add_parser("run", help="evaluate a model (also without the word run)")
    run.add_argument("model", help="a model folder, a checkpoint's huggingface folder, or a hub id")
    run.add_argument(
        "--protocol",
        default="geometry3k",
        help="a name (`gmpo-vl eval protocols`), `text`, or a file (geometry3k)",
    )
    run.add_argument(
        "--data", help="file, folder or hub id instead of the protocol's; or a folder that holds its file"
    )
    run.add_argument("--out", type=new_path, help="results go to OUT/NAME (runs/eval/MODEL)")
    run.add_argument(
        "--shard", type=_shard, default=None, metavar="i/k", help="the i-th of k parts; join with merge"
    )
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
        help="what answers: transformers (default), vllm, or auto: vllm where it is installed and there is a GPU",
    )
    run.add_argument(
        "--tensor-parallel",
        type=int,
        default=1,
        metavar="N",
        help="GPUs that share one copy of the model, with --backend vllm (1): for models that one GPU does not hold",
    )
    add_columns(run)
    changes = run.add_argument_group("other values than the protocol's; the result's name will say so")
    for field, (kind, text) in _OVERRIDES.items():
        changes.add_argument(f"--{field.replace('_', '-')}", dest=field, type=kind, help=text)
    run.set_defaults(run=run_eval)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/k, for example 1/4")
    return int(index), int(count)


def run_eval(options: argparse.Namespace) -> int:
    """Every protocol of the suite, one after the other; a table of all when there are several."""
    from gmpo_vl.evaluation.backends import backend_here
    from gmpo_vl.evaluation.protocols import SUITES

    if options.backend == "auto":
        options.backend, why = backend_here(_model_folder(options.model))
        print(f"answers come from {options.backend}: {why}", flush=True)
    finished = []
    for name in SUITES.get(options.protocol, (options.protocol,)):
        single = argparse.Namespace(**{**vars(options), "protocol": name})
        try:
            result = _run_one(single)
        except ChildProcessError as error:
            print(f"gmpo-vl: {error}", file=sys.stderr)
            return 1
        if result is not None:
            finished.append(result)
    if len(finished) > 1:
        mean = sum(result["pass@1"] for result in finished) / len(finished)
        print(f"unweighted mean of {len(finished)} sets: {100 * mean:.1f}")
    return 0


def _run_one(options: argparse.Namespace) -> dict[str, Any] | None:
    """One protocol; its results, or None for a shard."""
    from gmpo_vl.evaluation.page import write_page
    from gmpo_vl.evaluation.results import finish
    from gmpo_vl.evaluation.run import open_folder
    from gmpo_vl.storage.locks import OF_AN_EVALUATION, locked

    if options.workers < 1 or options.ray < 0:
        raise ValueError(f"--workers {options.workers} --ray {options.ray}: numbers of processes")
    if (options.workers > 1) + (options.ray > 0) + (options.shard is not None) > 1:
        raise ValueError("--workers, --ray and --shard are three ways to share the work: give one of them")
    job = _job(options)
    place = (options.out or default_out(options.model)) / job.protocol.name
    with locked(place, OF_AN_EVALUATION, shared=options.shard is not None):  # shards answer side by side
        job, folder = open_folder(job, place)
        options.plan = job.plan
        if not folder.finished:
            _answer_all(job, folder, options)
        if options.shard is not None:
            print(
                f"{place}: shard {options.shard[0]}/{options.shard[1]} is done; join with `gmpo-vl eval merge`"
            )
            return None
        results = finish(folder)
        write_page(folder)
    print_results(results, place)
    return results


def _answer_all(job: Any, folder: Any, options: argparse.Namespace) -> None:
    """Every chunk, or a shard's, in this process or in several."""
    from gmpo_vl.evaluation.ray_actors import run_actors
    from gmpo_vl.evaluation.run import answer_chunks
    from gmpo_vl.evaluation.workers import run_workers
    from gmpo_vl.progress import phase_bar

    shard = options.shard or (1, 1)
    mine = sum(len(job.chunk(number)) for number in job.shard(shard))
    with phase_bar(job.protocol.name, mine) as advance:
        if options.ray:
            run_actors(job, folder, options.ray, partial(_job_of_plan, options), advance)
        elif options.workers > 1:
            run_workers(job, folder, options.workers, answer_shard, options, advance)
        else:
            answer_chunks(job, folder, shard, advance)


def answer_shard(options: argparse.Namespace, shard: tuple[int, int]) -> None:
    """What a worker process does. The one that started it holds the folder's lock."""
    from gmpo_vl.evaluation.run import answer_chunks
    from gmpo_vl.runs import EvaluationFolder

    job = _job_of_plan(options)
    out = options.out or default_out(options.model)
    answer_chunks(job, EvaluationFolder(out / job.protocol.name), shard)


def _job_of_plan(options: argparse.Namespace) -> Any:
    """The command's job in a process that it started."""
    quiet_libraries()
    from gmpo_vl.evaluation.run import job_of

    return job_of(options.plan, _model_folder(options.model), columns_of(options))


def _model_folder(model: str) -> Path:
    from gmpo_vl.models.loading import model_folder

    try:
        return model_folder(model)
    except FileNotFoundError as error:
        said = str(error).removeprefix("worker.actor.model.model_path: ")
        raise FileNotFoundError(f"no such model folder: {said}") from error


def _job(options: argparse.Namespace) -> Any:

    quiet_libraries()
    from gmpo_vl.data.rows import DataError
    from gmpo_vl.evaluation.backends import BackendChoice
    from gmpo_vl.evaluation.protocols import load_protocol, override
    from gmpo_vl.evaluation.run import prepare

    changes = {field: getattr(options, field) for field in _OVERRIDES if getattr(options, field) is not None}
    protocol = override(load_protocol(options.protocol), changes)
    copies = options.shard[1] if options.shard is not None else max(options.workers, options.ray)
    try:
        return prepare(
            options.model,
            _model_folder(options.model),
            protocol,
            _source(options.data, protocol.data),
            columns_of(options),
            BackendChoice(options.backend, options.tensor_parallel, copies),
            # a published grader knows nothing of a gold's choices, tolerance or type
            {} if options.grader else {"grader": "strict"},
        )
    except DataError as error:
        raise type(error)(_in_words_of_eval(str(error))) from error


def _source(data: str | None, usual: str) -> str | None:
    """--data, or the protocol's file inside it: a suite's sets lie in one folder."""
    if data is not None and (Path(data) / Path(usual).name).is_file():
        return str(Path(data) / Path(usual).name)
    if data is None and usual.startswith("data/") and not Path(usual).exists():
        raise FileNotFoundError(
            f"{usual}: not here. `python data_prep/text_benchmarks.py SUITE data/text` writes it; --data names another place"
        )
    return data


def _in_words_of_eval(message: str) -> str:
    """A room's errors name the configuration's keys; here they are options."""
    for key in COLUMN_KEYS:
        message = message.replace(f"data.{key}", f"--{key.replace('_', '-')}")
    return (
        message.replace("data.max_prompt_length", "--max-prompt-tokens")
        .replace("data.max_pixels", "--max-pixels")
        .replace(", or set data.filter_overlong_prompts=true to leave over-long prompts out", "")
        .replace(", or set data.on_bad_row=skip to leave them out", "")
    )


def default_out(model: str) -> Path:
    """runs/eval/MODEL, where a run's checkpoint is called RUN-step_N."""
    parts = [part for part in Path(model).parts if part not in ("huggingface", "checkpoints", "/", "..", ".")]
    name = "-".join(parts[-2:]) if parts and parts[-1].startswith("step_") else (parts or ["model"])[-1]
    return Path("runs/eval") / name


def run_protocols(options: argparse.Namespace) -> int:
    from gmpo_vl.evaluation.protocols import SUITES, load_protocol, protocol_names, stated

    if options.protocol is not None:
        for key, value in stated(load_protocol(options.protocol)).items():
            print(f"{key}: {value}")
        return 0
    for name in protocol_names():
        print(f"{name:16} {load_protocol(name).about.split('. ')[0]}")
    for name, parts in SUITES.items():
        print(f"{name:16} all of {', '.join(parts)}")
    return 0
