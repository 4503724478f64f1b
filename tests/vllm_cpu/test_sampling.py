"""What vLLM is asked for it does: end tokens, bans, seeds and log-probs, in EasyR1's rollout and in an
evaluation's.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("vllm.v1", reason="vLLM is not installed: make test-vllm EASYR1_HOME=FOLDER")
pytest.importorskip("verl", reason="EasyR1 is not installed: make test-vllm EASYR1_HOME=FOLDER")

from ranks import run_ranks

from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.cpu import CPUWorker
from gmpo_vl.engines.easyr1.serialisation import answers_of, prompts_to_proto
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.setup import sampling_of
from gmpo_vl.types import Example

ENDS = [*range(0, 200), 396]  # half of everything that a random model says, and the tokenizer's own


@pytest.fixture
def many_ends(tiny_folder, tmp_path):
    """A model whose generation config names further end tokens, as Qwen2.5's does."""
    folder = shutil.copytree(tiny_folder, tmp_path / "many_ends")
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, "eos_token_id": ENDS}))
    return folder


def answers_of_worker(rank, world, config, n):
    """Every answer's ids, -1 after its end, and last whether it is finished."""
    worker = CPUWorker(to_easyr1(config, 3, cpu=True).worker, "actor_rollout_ref")
    worker.init_model()
    processor = load_processor(config.worker.actor.model.model_path)
    prompts = [encode_prompt(Example(f"q{i}", f"What is 1 + {i}?", "3"), processor) for i in range(24 // n)]
    worker.prepare_rollout_engine()
    asked = prompts_to_proto(prompts, [0] * len(prompts), replace(sampling_of(config), n=n), 1)
    responses = [r for of_prompt in answers_of(worker.generate_sequences(asked)) for r in of_prompt]
    worker.release_rollout_engine()
    rows = torch.full((len(responses), config.data.max_response_length + 1), -1)
    for row, response in zip(rows, responses):
        row[: len(response.ids_T)] = response.ids_T
        row[-1] = int(response.finished)
    return rows


@pytest.mark.parametrize("n", [1, 4])
def test_every_end_token_ends_an_answer_in_the_last_place_too(make_config, many_ends, n):
    config = make_config(f"worker.actor.model.model_path={many_ends}", "data.max_response_length=3")
    (rows,) = run_ranks(1, answers_of_worker, config, n)
    assert len(rows) == 24
    for row in rows:
        ids = row[:-1][row[:-1] >= 0]
        ended = torch.isin(ids, torch.tensor(ENDS))
        assert not ended[:-1].any()
        assert bool(ended[-1]) == bool(row[-1])
        assert ended[-1] or len(ids) == 3
    assert {len(row[row >= 0]) for row in rows} == {2, 3, 4}  # the flag among them


def test_ignored_ends_end_nothing(make_config, many_ends):
    config = make_config(f"worker.actor.model.model_path={many_ends}", "worker.rollout.ignore_eos=true")
    (rows,) = run_ranks(1, answers_of_worker, config, 4)
    assert (rows[:, :-1] >= 0).all()
    assert not rows[:, -1].any()
