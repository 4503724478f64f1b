"""These tests run where EasyR1 is: `make test-easyr1 EASYR1_HOME=FOLDER`. Elsewhere every file says why it is
skipped.
"""

import hashlib
import os
from pathlib import Path

import pytest
from tiny_runs import BASE

ON_EASYR1 = """
base: tiny.yaml
engine: easyr1
worker:
  actor: {fsdp: {use_orig_params: true}}
  ref: {fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}}
  rollout: {tensor_parallel_size: 1, dtype: fp32}
trainer: {max_steps: 3, val_freq: 1, save_freq: 1, n_gpus_per_node: 1}
"""


def digest(folder: Path) -> str:
    """Of every file's name and bytes."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def easyr1_stays_as_it_is():
    """EasyR1 is used, never changed: its checkout is the same to the byte afterwards."""
    home = os.environ.get("EASYR1_HOME")
    before = digest(Path(home)) if home else None
    yield
    assert home is None or digest(Path(home)) == before, f"{home} was changed by these tests"


@pytest.fixture
def config_file(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(BASE)
    path = tmp_path / "run.yaml"
    path.write_text(ON_EASYR1)
    return path
