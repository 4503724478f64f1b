"""Our reward in every reward manager of verl that its trainer can choose, with answers that mean harm."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
import ray
import torch
from settings import composed
from transformers import AutoTokenizer
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER
from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager
from verl.workers.reward_manager import get_reward_manager_cls

RIGHT, WRONG = "<think>a</think> \\boxed{9.2}", "\\boxed{3}"
HOSTILE = (
    "\\boxed{9^{9^{9^9}}}",
    "\\boxed{" + "9" * 100_000 + "}",
    "\\boxed{" * 5_000 + "9.2" + "}" * 5_000,
    "\\boxed{" + "(" * 5_000 + "}",
    "x" * 1_000_000,
    "\x00\\boxed{9.2\x00}\x00",
    "\\boxed{\ud800}",
    "\\boxed{\u202e2.9\U0001f4a5}",
    "\\boxed{\\frac{1}{0}}",
    "\\boxed{__import__('os').system('false')}",
    "",
)
LOOP = ("naive", "dapo", "gdpo", "rate_limited", "remote")


class Texts:
    """Ids are places in a list of texts: no tokenizer gives back every hostile text."""

    eos_token = "<end>"

    def decode(self, ids, skip_special_tokens=True):
        return "".join(([*HOSTILE, RIGHT, WRONG])[int(i)] for i in ids)


def configured(models, *more):
    return composed(
        "reward.custom_reward_function.path=pkg://gmpo_vl.plugins.verl",
        "+reward.custom_reward_function.reward_kwargs.reward=geometry3k",
        f"actor_rollout_ref.model.path={models['text']}",
        *more,
    )


def rows(texts: list[int]) -> DataProto:
    count = len(texts)
    responses = torch.tensor(texts)[:, None]
    prompts = torch.zeros(count, 2, dtype=torch.long)
    tensors = {
        "prompts": prompts,
        "responses": responses,
        "input_ids": torch.cat([prompts, responses], 1),
        "attention_mask": torch.ones(count, 3, dtype=torch.long),
    }
    others = {
        "data_source": np.array(["x"] * count, dtype=object),
        "reward_model": np.array([{"ground_truth": "9.2", "style": "rule"}] * count, dtype=object),
        "extra_info": np.array([{} for _ in range(count)], dtype=object),
    }
    return DataProto.from_dict(tensors=tensors, non_tensors=others)


EVERY = rows(list(range(len(HOSTILE) + 2)))


@pytest.fixture(scope="module")
def on_ray(environment):
    on_cpu = {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "verl_on_cpu", "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 << 20,
        runtime_env={"env_vars": {**on_cpu, "PYTHONPATH": environment["PYTHONPATH"]}},
    )
    yield
    ray.shutdown()


def right(infos: list[dict]) -> None:
    """The last but one is right, in form and value; nothing else has the value; all have the same parts."""
    assert [info["acc"] for info in infos[-2:]] == [1.0, 0.0]
    assert infos[-2]["score"] == 1.0
    assert {frozenset(info) for info in infos} == {frozenset({"score", "acc", "format", "reward_failed"})}
    paid = [text for text, info in zip(HOSTILE, infos) if info["acc"]]
    assert all("9.2" in text for text in paid), [text[:40] for text in paid]


def test_these_are_all_that_the_trainer_can_choose():
    assert set(LOOP) == set(REWARD_MANAGER)


@pytest.mark.parametrize("name", LOOP)
def test_a_manager_of_the_reward_loop(name, models, request):
    if name == "remote":
        request.getfixturevalue("on_ray")
    config = configured(models, f"reward.reward_manager.name={name}", "reward.num_workers=1")

    async def score():
        manager = load_reward_manager(config, Texts())
        return await asyncio.gather(*(manager.run_single(EVERY[i : i + 1]) for i in range(len(EVERY))))

    found = asyncio.run(score())
    right([one["reward_extra_info"] for one in found])
    assert all(one["reward_score"] == one["reward_extra_info"]["score"] for one in found)


def test_workers_of_the_reward_loop(models, on_ray):
    """Ray actors, with a real tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(models["text"])
    texts = [RIGHT, WRONG, HOSTILE[0]]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, ids))
    data = rows([0] * len(texts))
    data.batch["responses"] = torch.tensor([one + [0] * (width - len(one)) for one in ids])
    places = [[1, 1] + [1] * len(one) + [0] * (width - len(one)) for one in ids]
    data.batch["attention_mask"] = torch.tensor(places)
    worker = ray.remote(RewardLoopWorker).remote(configured(models), None)
    found = ray.get(worker.compute_score_batch.remote(data))
    assert [one["reward_score"] for one in found] == pytest.approx([1.0, 0.0, 0.0])
    assert all(one["reward_extra_info"]["reward_failed"] == 0 for one in found)


@pytest.mark.parametrize("name", ["naive", "dapo"])
def test_the_older_managers(name, models):
    score = get_custom_reward_fn(configured(models))
    manager = get_reward_manager_cls(name)(Texts(), 0, compute_score=score)
    found = manager(EVERY, return_dict=True)
    infos = [
        dict(zip(found["reward_extra_info"], values)) for values in zip(*found["reward_extra_info"].values())
    ]
    right(infos)
    assert found["reward_tensor"].sum(-1).tolist() == pytest.approx([info["score"] for info in infos])


def test_what_hangs_is_stopped_where_verl_stops_it(models, tmp_path):
    """verl's older naive manager has a clock of its own; its alarm is a failure that is counted."""
    (tmp_path / "slow.py").write_text(
        "import time\n\ndef slow(reward_inputs):\n"
        "    for given in reward_inputs:\n"
        "        if '9^' in given['response']:\n"
        "            time.sleep(60)\n"
        "    return [{'overall': 1.0, 'accuracy': 1.0} for _ in reward_inputs]\n"
    )
    config = configured(models, f"reward.custom_reward_function.reward_kwargs.reward={tmp_path}/slow.py:slow")
    manager = get_reward_manager_cls("naive")(
        Texts(), 0, compute_score=get_custom_reward_fn(config), compute_score_timeout=1
    )
    last = len(EVERY) - 1
    found = manager(rows([last, 0, last]), return_dict=True)
    assert found["reward_tensor"].sum(-1).tolist() == [1.0, 0.0, 1.0]
    assert found["reward_extra_info"]["reward_failed"] == [0.0, 1.0, 0.0]


def test_answers_on_which_math_verify_hangs_are_counted(models):
    """Its workers are killed, from whatever thread verl asks in, and the next answer is judged."""
    config = composed(
        "reward.custom_reward_function.path=pkg://gmpo_vl.plugins.verl",
        "+reward.custom_reward_function.reward_kwargs.reward=math",
        "+reward.custom_reward_function.reward_kwargs.profile=paper",
        f"actor_rollout_ref.model.path={models['text']}",
    )
    last = len(EVERY) - 2

    async def score():
        manager = load_reward_manager(config, Texts())
        data = rows([last, 0, last, 0, last])
        return await asyncio.gather(*(manager.run_single(data[i : i + 1]) for i in range(len(data))))

    infos = [one["reward_extra_info"] for one in asyncio.run(score())]
    assert [info["acc"] for info in infos] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert [info["reward_failed"] for info in infos] == [0.0, 1.0, 0.0, 1.0, 0.0]


def test_the_command_says_which_verl_is_there(tmp_path):
    """EasyR1's package has the same name; and there may be none."""
    (tmp_path / "verl" / "trainer").mkdir(parents=True)
    for file in ("__init__.py", "trainer/__init__.py", "trainer/core_algos.py"):
        (tmp_path / "verl" / file).write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import gmpo_vl.plugins.verl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is EasyR1's, which has the same name" in done.stderr
