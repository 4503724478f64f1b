"""These tests run where vLLM 0.11 for CPUs and EasyR1 are: `make test-vllm EASYR1_HOME=FOLDER`.

Elsewhere every file says why it is skipped. What every step's log-probs came to is printed at the end.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "easyr1"))

from tiny_runs import BASE, protocol_text

import gmpo_vl
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.models import tiny

os.environ |= {"VLLM_LOGGING_LEVEL": "WARNING", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}

ON_VLLM = """
base: tiny.yaml
engine: easyr1
worker:
  actor: {fsdp: {use_orig_params: true}}
  ref: {fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}}
  rollout: {tensor_parallel_size: 1, dtype: fp32, temperature: 0.7, enforce_eager: true, disable_tqdm: true,
    max_num_batched_tokens: 4096}
trainer: {max_steps: 3, val_freq: 1, save_freq: 1, n_gpus_per_node: 1}
"""

START = time.monotonic()
TABLE: list[tuple[str, list[float]]] = []


@pytest.fixture
def note(request):
    """note(gaps): what the sampler's and the trainer's log-probs of a step differed by at most, for the table
    at the end.
    """

    def keep(gaps, what=""):
        TABLE.append((f"{request.node.name} {what}".strip(), [float(gap) for gap in gaps]))

    return keep


@pytest.fixture
def config_file(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(BASE)
    path = tmp_path / "run.yaml"
    path.write_text(ON_VLLM)
    return path


@pytest.fixture
def overrides(config_file, overrides) -> list[str]:
    """What is written after the configuration's file, which is there."""
    return overrides


def pytest_terminal_summary(terminalreporter):
    if not TABLE:
        return
    terminalreporter.section("largest gap of a token's log-prob, sampler to trainer, nats, step by step")
    for name, gaps in TABLE:
        terminalreporter.write_line(f"{name:72s} {'  '.join(f'{gap:.1e}' for gap in gaps)}")
    terminalreporter.write_line(f"{(time.monotonic() - START) / 60:.1f} minutes")


@pytest.fixture(scope="session")
def packaged():
    """packaged(name): a model folder that comes with this package."""
    return lambda name: Path(gmpo_vl.__file__).parent / "models" / name


@pytest.fixture(scope="session")
def two_heads(tmp_path_factory) -> Path:
    """A tiny model whose keys and values two ranks of tensor parallelism can share."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(tiny.SIZES, "test", replace(tiny.SIZES["test"], kv_heads=2))
        return tiny.save_tiny(tmp_path_factory.mktemp("models") / "two_heads")


@pytest.fixture
def mixed(diagrams, tmp_path) -> Path:
    """The diagrams, two of three without their picture: most steps, a rank has none and the other has."""
    rows = pq.read_table(
        diagrams / "train.parquet", columns=["images", "problem", "answer", "id"]
    ).to_pylist()
    for k, row in enumerate(rows):
        row["images"] = [image["bytes"] for image in row["images"]] if k % 3 == 0 else []
        row["problem"] = row["problem"].replace("<image>", "" if k % 3 else "<image>")
    write_parquet(tmp_path / "mixed.parquet", rows, {"id": "string"})
    return tmp_path / "mixed.parquet"


@pytest.fixture(scope="session")
def small_protocol(tmp_path_factory) -> Path:
    """geometry3k with pictures as they are and answers of 12 tokens."""
    path = tmp_path_factory.mktemp("protocols") / "small.yaml"
    path.write_text(protocol_text())
    return path
