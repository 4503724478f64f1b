"""verl's own trainer through Ray on a CPU: two steps with our objectives and rewards."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from PIL import Image, ImageDraw
from settings import ACTOR, ON_CPU, loss_options

MAIN = Path(__file__).parent / "ray_main.py"
REWARD = (
    "reward.custom_reward_function.path=pkg://gmpo_vl.plugins.verl",
    "+reward.custom_reward_function.reward_kwargs.reward=geometry3k",
)
OWN = '''
"""A loss that says in a file that it was called."""

def loss(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, said, clip=0.4):
    with open(said, "a") as file:
        print(len(advantages_B), clip, file=file)
    log_ratio_BT = (log_probs_BT - old_log_probs_BT).clamp(-clip, clip) * mask_BT
    return -advantages_B * (log_ratio_BT.sum(-1) / mask_BT.sum(-1).clamp(min=1)).exp()
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """Rows in verl's form, without and with a picture each."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"What is {i}+1?"}],
            "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
            "extra_info": {"index": i},
        }
        for i in range(8)
    ]
    with_pictures = [
        {
            **row,
            "prompt": [{"role": "user", "content": "<image>" + row["prompt"][0]["content"]}],
            "images": [{"bytes": picture(i)}],
        }
        for i, row in enumerate(rows)
    ]
    found = {"text": folder / "text.parquet", "vl": folder / "vl.parquet"}
    pandas.DataFrame(rows).to_parquet(found["text"])
    pandas.DataFrame(with_pictures).to_parquet(found["vl"])
    return found


def picture(number: int) -> bytes:
    image = Image.new("RGB", (56, 56), "white")
    ImageDraw.Draw(image).text((10, 20), str(number), fill="black")
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()


@pytest.fixture
def run(models, data, tmp_path, environment):
    """Runs verl for two steps: (exit code, everything it said)."""

    def call(kind: str, ranks: int, *more: str) -> tuple[int, str]:
        arguments = [
            *ON_CPU,
            f"data.train_files={data[kind]}",
            f"data.val_files={data[kind]}",
            f"actor_rollout_ref.model.path={models[kind]}",
            "data.train_batch_size=4",
            "data.max_prompt_length=64",
            "data.max_response_length=16",
            "data.dataloader_num_workers=0",
            "data.filter_overlong_prompts=false",
            "algorithm.adv_estimator=grpo",
            "actor_rollout_ref.rollout.name=hf_cpu",
            "actor_rollout_ref.rollout.n=4",
            "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
            "actor_rollout_ref.rollout.agent.num_workers=1",
            f"{ACTOR}.ppo_mini_batch_size=2",
            f"{ACTOR}.ppo_micro_batch_size_per_gpu=2",
            f"{ACTOR}.optim.lr=1e-3",
            "reward.num_workers=1",
            f"trainer.n_gpus_per_node={ranks}",
            "trainer.total_training_steps=2",
            "trainer.logger=[console]",
            "trainer.test_freq=2",
            "trainer.save_freq=-1",
            "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
            *more,
        ]
        place = {**environment, "VERL_USE_EXTERNAL_MODULES": "verl_on_cpu,hf_rollout"}
        done = subprocess.run(
            [sys.executable, str(MAIN), str(ranks), *arguments],
            env={**place, "RAY_DEDUP_LOGS": "0"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    return call


def metrics_of(said: str) -> list[dict[str, float]]:
    """Those of each step that the console logger told."""
    lines = [line for line in said.splitlines() if re.search(r"step:\d+ - .*actor/pg_loss", line)]
    pairs = [re.findall(r"([\w/@.\-]+):(?:np\.float64\()?(-?[\d.]+(?:e-?\d+)?)", line) for line in lines]
    return [{name: float(value) for name, value in pair} for pair in pairs]


def test_text_on_two_ranks(run):
    code, said = run("text", 2, *loss_options("gmpo_vl/gmpo", log_clip_high=0.6), *REWARD)
    assert code == 0, said[-5000:]
    steps = metrics_of(said)
    assert len(steps) == 2, said[-5000:]
    for step in steps:
        assert step["actor/grad_norm"] >= 0
        assert "actor/pg_clipfrac" in step
        assert "actor/ppo_kl" in step
    assert any("reward_failed" in name for name in re.findall(r"val-\w+/\S+?(?=:)", said)), said[-5000:]


def test_pictures_with_an_objective_of_one_s_own(run, tmp_path):
    """It travels to Ray's workers by its path, and so do its options."""
    (tmp_path / "own.py").write_text(OWN)
    told = tmp_path / "told.txt"
    options = {"options.said": str(told), "options.clip": 0.25}
    code, said = run("vl", 1, *loss_options("gmpo_vl/own.py:loss", **options), *REWARD)
    assert code == 0, said[-5000:]
    assert len(metrics_of(said)) == 2
    calls = [line for line in told.read_text().splitlines() if line == "2 0.25"]
    assert (
        len(calls) >= 2 * 4 * 4 // 2
    )  # micro-batches of two rows in two steps, beside the check's own calls


def test_an_unknown_option_of_the_reward_ends_the_run_with_a_sentence(run):
    wrong = "+reward.custom_reward_function.reward_kwargs.format_wieght=0.2"
    code, said = run(
        "text", 1, *loss_options("gmpo_vl/gmpo"), *REWARD, wrong, "trainer.val_before_train=false"
    )
    assert code != 0
    assert "did you mean format_weight" in said, said[-5000:]
