"""Workers may start processes of their own, as vLLM does, and take them along when they end."""

import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gmpo_vl.evaluation import sharing
from gmpo_vl.evaluation.backends import BackendChoice, check_backend
from gmpo_vl.evaluation.sharing import _dealt, run_workers
from gmpo_vl.runs import EvaluationFolder


def engine(folder: Path, name: str, stays: bool) -> None:
    (folder / f"{name}.pid").write_text(str(os.getpid()))
    while stays:
        time.sleep(0.05)


def answer(options: SimpleNamespace, place: Path, shard: tuple[int, int]) -> None:
    """What a worker with vLLM does: its engine is a process of its own (forked here: that takes no time)."""
    name = f"engine_{shard[0]}"
    process = multiprocessing.get_context("fork").Process(
        target=engine, args=(options.out, name, options.fails)
    )
    process.start()
    while not (options.out / f"{name}.pid").exists():
        time.sleep(0.01)
    if options.fails:
        os._exit(3)
    process.join()


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def run(folder: Path, fails: bool) -> None:
    options = SimpleNamespace(out=folder, fails=fails)
    prepared = SimpleNamespace(backend=BackendChoice(), again=lambda: options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sharing, "answer_shard", answer)
        run_workers(prepared, EvaluationFolder(folder), 1, lambda done: None)  # pyright: ignore[reportArgumentType]


def test_a_worker_may_start_processes(tmp_path):
    run(tmp_path, fails=False)
    assert len(list(tmp_path.glob("*.pid"))) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_nothing_that_a_worker_started_outlives_a_failure(tmp_path):
    """It would hang where an engine stays."""
    with pytest.raises(ChildProcessError, match=r"exit code 3"):
        run(tmp_path, fails=True)
    started = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert started
    while any(alive(pid) for pid in started):  # killed, and on their way
        time.sleep(0.01)


def test_gpus_are_dealt_by_the_model_and_too_few_are_refused():
    assert _dealt(["0", "1", "2", "3"], 2, BackendChoice("vllm", 2)) == ["0,1", "2,3"]
    assert _dealt(["4", "7"], 3, BackendChoice("transformers")) == ["4", "7", "4"]
    with pytest.raises(ValueError, match="takes 4 GPUs; 3 are visible"):
        _dealt(["0", "1", "2"], 2, BackendChoice("vllm", 2))
    with pytest.raises(ValueError, match="--workers 3 --backend vllm: that takes 3 GPUs; 2 are visible"):
        _dealt(["4", "7"], 3, BackendChoice("vllm"))


@pytest.mark.parametrize(
    "choice", [BackendChoice("transformers", 2), BackendChoice("vllm", 0), BackendChoice("transformers", -1)]
)
def test_several_gpus_for_one_model_are_for_vllm(choice, tmp_path):
    with pytest.raises(ValueError, match="--tensor-parallel"):
        check_backend(choice, tmp_path)
