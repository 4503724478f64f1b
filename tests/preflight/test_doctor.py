"""The doctor finds what stands in a run's way, names where, and says what to change."""

import json
import shutil
from pathlib import Path

import pytest
from doctor_findings import of
from planted import encoded, picture, planted, write_planted

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.preflight.machine_check import TESTED, file_system
from gmpo_vl.preflight.rehearsal import rehearse

ROOT = Path(__file__).parents[2]


def test_a_sound_configuration_has_nothing_in_its_way(doctor, tmp_path, capsys):
    code, findings = doctor()
    assert code == 0
    assert not of(findings, "error")
    looked_at = "weights model tokens template data batches memory disk reward sight".split()
    assert set(looked_at) <= set(of(findings, "ok"))
    assert not (tmp_path / "run").exists()
    out = capsys.readouterr().out
    assert "4 steps of 4 prompts x 2 = 8 rollouts, 2 updates of 4 rollouts" in out
    assert "right answers are worth 1.00, wrong ones 0.00" in out
    assert "KV cache" in out
    assert out.rstrip().endswith("0 errors, 0 warnings, 0 notes")


@pytest.mark.parametrize(
    "leaves_out", [["data.max_prompt_length=8"], ["data.max_image_pixels=9", "data.on_bad_row=skip"]]
)
def test_a_split_of_which_nothing_is_left_is_an_error(doctor, leaves_out, tmp_path):
    code, findings = doctor(*leaves_out)
    assert code == 1
    errors = [f for f in findings if f["level"] == "error"]
    assert [f["what"] for f in errors] == [
        "train: not one of its 12 rows can be used",
        "validation: not one of its 4 rows can be used",
    ]
    assert [f["where"] for f in errors] == ["data.train_files", "data.val_files"]
    assert main(["train", "--dry-run", str(tmp_path / "run.yaml"), *leaves_out]) == 2


def test_without_data_everything_else_is_checked(doctor, tmp_path):
    code, findings = doctor(f"data.train_files={tmp_path / 'gone.parquet'}")
    assert code == 1
    assert "gone.parquet: no such file" in of(findings, "error")["data"]["what"]
    assert {"weights", "template", "batches", "memory", "disk", "reward"} <= set(of(findings, "ok"))
    assert "taken to have max_prompt_length" in of(findings, "note")["memory"]["what"]


@pytest.mark.parametrize(
    ("override", "check", "said"),
    [
        ("data.format_prompt=nowhere", "template", "no template file nowhere"),
        ("data.override_chat_template=BROKEN", "template", "no prompt can be made"),
        ("worker.reward.reward_function=accurasy", "reward", "did you mean accuracy?"),
        ("worker.reward.reward_function=SYNTAX:f", "reward", "cannot be loaded"),
    ],
)
def test_an_error_is_told_of_what_it_is_in(override, check, said, doctor, tmp_path):
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}{{ m.content")
    (tmp_path / "syntax.py").write_text("def f(x:")
    override = override.replace("BROKEN", str(tmp_path / "broken.jinja")).replace(
        "SYNTAX", str(tmp_path / "syntax.py")
    )
    code, findings = doctor(override)
    assert code == 1
    errors = of(findings, "error")
    assert set(errors) == {check}
    assert said in errors[check]["what"]
    assert errors[check]["where"].startswith(override.split("=")[0]) or check == "template"
    assert {"data", "memory", "disk"} <= set(of(findings, "ok"))


def test_rows_with_more_pictures_than_vllm_is_told_of_are_an_error_with_the_number_to_write(doctor, tmp_path):
    def rows(*counts):
        return [
            {"images": [encoded(picture(10 * i + k)) for k in range(n)],
             "problem": "<image>" * n + f"Find x{i}.", "answer": "3", "id": f"r{i}"}
            for i, n in enumerate(counts)
        ]  # fmt: skip

    write_parquet(tmp_path / "a.parquet", rows(1, 0, 2, 3, 1), {"id": "string"})
    write_parquet(tmp_path / "b.parquet", rows(1, 4), {"id": "string"})
    files = [f"data.train_files={tmp_path / 'a.parquet'}", f"data.val_files={tmp_path / 'b.parquet'}"]
    gpu = [*files, "engine=easyr1", "trainer.n_gpus_per_node=1", "worker.rollout.tensor_parallel_size=1"]

    def told(*arguments):
        return [f for f in doctor(*arguments)[1] if f["check"] == "pictures"]

    train, validation = told(*gpu, "worker.rollout.limit_images=1")
    assert train["level"] == validation["level"] == "error"
    assert "2 train rows have more" in train["what"]
    assert train["where"] == f"{tmp_path / 'a.parquet'}, row 2 (id r2) has 2"
    assert "row 1 (id r1) has 4" in validation["where"]
    assert train["change"] == validation["change"] == "worker.rollout.limit_images=4, or 0 for no limit"
    assert told(*gpu, "worker.rollout.limit_images=4") == told(*gpu, "worker.rollout.limit_images=0") == []
    assert told(*files, "worker.rollout.limit_images=1") == []  # engine local has no such limit


def test_masking_without_a_picture_is_an_error(doctor, tmp_path):
    papo = "algorithm.papo.kl_prcp_coef=0.01"
    assert doctor(papo)[0] == 0
    rows = [{"problem": f"What is {i} + 2?", "answer": str(i + 2), "images": []} for i in range(8)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, findings = doctor(papo, f"data.train_files={tmp_path / 'text.jsonl'}")
    assert code == 1
    assert "no train row has one" in of(findings, "error")["pictures"]["what"]


def test_a_patch_of_the_mask_that_covers_whole_pictures_is_a_warning(doctor, tmp_path, capsys):
    papo = ["algorithm.papo.kl_prcp_coef=0.01", "algorithm.papo.patch_size=112"]  # the pictures' side
    _, findings = doctor(*papo)
    found = of(findings, "warning")["pictures"]
    assert "8 of the 8 pictures that were tried are black as a whole or not at all" in found["what"]
    assert found["where"] == "algorithm.papo.patch_size"
    capsys.readouterr()
    for side, told in ((112, True), (111, False)):
        plan = [
            "train",
            "--dry-run",
            str(tmp_path / "run.yaml"),
            papo[0],
            f"algorithm.papo.patch_size={side}",
        ]
        assert main(plan) == 0
        assert ("WARNING: algorithm.papo.patch_size: " in capsys.readouterr().out) is told


def test_pictures_that_are_mostly_scaled_up_are_noted_with_their_tokens(doctor):
    _, findings = doctor("data.min_pixels=50176", "data.max_prompt_length=256")
    note = of(findings, "note")["pictures"]
    assert note["where"] == "data.min_pixels"
    scaled = "12 of 12 train pictures are scaled up to data.min_pixels 50,176"
    assert note["what"] == f"{scaled}: on average 64 image tokens a picture, 16 as they are"
    _, findings = doctor("data.min_pixels=12544")  # what they have
    assert "pictures" not in of(findings, "note")


def test_what_to_do_about_a_warning_leaves_its_rows_out(doctor, data, tmp_path):
    shutil.copy(data / "train.parquet", tmp_path / "validation.parquet")
    code, findings = doctor(f"data.val_files={tmp_path / 'validation.parquet'}")
    assert code == 0
    change = of(findings, "warning")["data"]["change"]
    assert "another split" in change
    assert change.endswith("--clean FOLDER --drop leak_problem")


def test_a_folder_that_cannot_be_made_is_an_error(doctor, tmp_path):
    (tmp_path / "file").write_text("x")
    code, findings = doctor(f"trainer.save_checkpoint_path={tmp_path / 'file/run'}")
    assert code == 1
    assert "is a file, not a folder" in of(findings, "error")["disk"]["what"]


def test_bad_rows_are_errors_unless_the_configuration_leaves_them_out(doctor, tmp_path):
    train = write_planted(planted(), "jsonl", tmp_path)
    code, findings = doctor(f"data.train_files={train}")
    assert code == 1
    assert {f["what"].split(":")[0] for f in findings if f["level"] == "error"} >= {
        "image_unreadable",
        "image_tags",
    }
    code, findings = doctor(f"data.train_files={train}", "data.on_bad_row=skip")
    assert code == 0
    assert any("left out, as configured" in f["what"] for f in findings)


@pytest.mark.parametrize(
    ("overrides", "check", "said"),
    [
        (["worker.reward.reward_function=FLAT"], "reward", "worth 0.50 and a wrong one 0.50"),
        (["worker.reward.reward_function=FAILS"], "data", "gold_refused"),
        (["worker.reward.reward_function=FAILS"], "reward", "KeyError"),
        (["data.rollout_batch_size=64", "trainer.max_steps=null", "trainer.total_epochs=1"],
         "batches", "less than one step's 64"),
        (["data.max_response_length=200000000"], "memory", "needed"),
        (["trainer.save_freq=1", "trainer.max_steps=1000000000"], "disk", "up to 1000000001 of them"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_an_error_with_a_way_out(overrides, check, said, doctor, tmp_path):
    for name, body in (
        ("FLAT", "return [{'overall': 0.5} for _ in reward_inputs]"),
        ("FAILS", "raise KeyError('x')"),
    ):
        (tmp_path / f"{name}.py").write_text(f"def compute_score(reward_inputs):\n    {body}\n")
        overrides = [o.replace(name, f"{tmp_path / name}.py:compute_score") for o in overrides]
    if check == "memory":
        overrides = [*overrides, "worker.rollout.max_cached_tokens=1000000000000"]
    code, findings = doctor(*overrides)
    assert code == 1
    errors = of(findings, "error")
    assert said in errors[check]["what"]
    assert errors[check]["change"]


def test_a_part_with_a_weight_that_no_score_has_is_told_with_the_parts_there_are(doctor, tmp_path):
    code, findings = doctor("algorithm.reward_weights={acuracy: 1.0}")
    assert code == 1
    error = of(findings, "error")["reward"]
    assert "did you mean accuracy? (parts: overall, accuracy)" in error["what"]
    assert error["where"] == "algorithm.reward_weights"
    assert "one of the parts in brackets" in error["change"]
    right = "float(one['ground_truth'] in one['response'])"
    scores = f"[{{'overall': {right}, 'brief': 1.0}} for one in reward_inputs]"
    (tmp_path / "own.py").write_text(f"def score(reward_inputs):\n    return {scores}\n")
    reward = f"worker.reward.reward_function={tmp_path / 'own.py'}:score"
    for part, told in (("brief", False), ("breif", True)):
        _, findings = doctor(reward, f"algorithm.reward_weights={{overall: 1.0, {part}: 0.5}}")
        assert ("reward" in of(findings, "warning")) is told
    assert "did you mean brief? (parts: overall, brief)" in of(findings, "warning")["reward"]["what"]
    _, findings = doctor(reward, "algorithm.online_filtering=true", "algorithm.filter_key=breif")
    assert of(findings, "warning")["reward"]["where"] == "algorithm.filter_key"


def test_validation_on_training_rows_is_a_warning(doctor, data):
    for files, told in ((data / "train.parquet", True), (data / "validation.parquet", False)):
        code, findings = doctor(f"data.val_files={files}")
        assert code == 0
        wheres = [f["where"] for f in findings if f["level"] == "warning" and "too, or a copy" in f["what"]]
        assert wheres == ["data.val_files"] * told


def test_a_rehearsal_gives_every_group_a_gradient_whatever_the_weights(doctor, tmp_path):
    settings = [
        *("algorithm.adv_estimator=gdpo", "algorithm.reward_weights={accuracy: 1.0, overall: -1.0}"),
        *("algorithm.online_filtering=true", "algorithm.filter_key=format"),
        "worker.reward.reward_function=math",
    ]
    _, findings = doctor(*settings)
    assert not of(findings, "error")
    assert rehearse(load_config(tmp_path / "run.yaml", settings)).steps == 3


def test_the_first_picture_is_looked_at_however_late_it_comes(doctor, tmp_path):
    rows = [{"images": [], "problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(30)]
    write_parquet(tmp_path / "text.parquet", rows)
    shown = {"images": [encoded(picture(0))], "problem": "<image>Find x.", "answer": "3"}
    write_parquet(tmp_path / "late.parquet", [*rows, shown])
    _, findings = doctor(f"data.train_files={tmp_path / 'late.parquet'}")
    assert "the log-probs of an answer change by up to" in of(findings, "ok")["sight"]["what"]
    _, findings = doctor(f"data.train_files={tmp_path / 'text.parquet'}")
    assert "no train row has a picture" in of(findings, "note")["sight"]["what"]


@pytest.mark.parametrize("loss", ["easyr1/gspo", "gmpo"])
def test_the_engines_divisions_are_checked(loss, doctor):
    code, findings = doctor(
        "engine=easyr1",
        f"worker.actor.loss_type={loss}",
        "trainer.n_gpus_per_node=2",
        "worker.rollout.tensor_parallel_size=4",
        "worker.rollout.n=5",
        "worker.rollout.max_num_batched_tokens=100",
        "worker.actor.micro_batch_size_per_device_for_update=3",
        "worker.actor.micro_batch_size_per_device_for_experience=7",
    )
    assert code == 1
    said = "\n".join(f["what"] for f in findings if f["check"] == "engine")
    assert "tensor_parallel_size 4 does not divide the 2 GPUs" in said
    assert "a prompt with its response has up to 136 tokens" in said
    # Only EasyR1's own losses need micro-batches that divide.
    assert ("update 3 does not divide the 5 rollouts per GPU and update; write one of 1, 5" in said) == (
        loss != "gmpo"
    )
    assert ("experience 7 does not divide the 20 rollouts of a step" in said) == (loss != "gmpo")
    assert said.count("\n") == (3 if loss != "gmpo" else 1)


def test_for_easyr1_memory_is_told_per_gpu_and_a_folder_of_one_node_is_warned_of(doctor):
    gpus = [
        "engine=easyr1",
        "trainer.n_gpus_per_node=2",
        "worker.actor.micro_batch_size_per_device_for_update=2",
    ]
    code, findings = doctor(
        *gpus, "worker.actor.micro_batch_size_per_device_for_experience=8", "trainer.nnodes=2"
    )
    assert code == 1
    assert (
        "must be multiples of the 4 GPUs" in of(findings, "error")["engine"]["what"]
    )  # updates of 2 prompts
    assert "other nodes do not see" in of(findings, "warning")["disk"]["what"]
    code, findings = doctor(
        *gpus, "worker.actor.micro_batch_size_per_device_for_experience=8", "trainer.nnodes=1"
    )
    assert code == 0
    memory = (of(findings, "note") | of(findings, "ok"))["memory"]["what"]
    assert "one of 2 shards" in memory
    assert "vLLM" in memory


def test_the_tested_versions_are_those_of_the_constraints():
    pinned: dict[str, set[str]] = {}
    for name in ("cpu.txt", "easyr1-cpu.txt"):
        for line in (ROOT / "constraints" / name).read_text().splitlines():
            package, _, version = line.partition("==")
            pinned.setdefault(package.lower(), set()).add(version)
    assert {name: set(versions) for name, versions in TESTED.items()} == {
        name: pinned[name] for name in TESTED
    }


def test_the_file_system_of_a_folder_is_known():
    assert file_system(Path("/proc")) == "proc"


def test_a_rehearsal_that_fails_says_what_the_run_would_say(doctor):
    code, findings = doctor(
        "worker.actor.model.lora.rank=2", "worker.actor.model.lora.target_modules=nothing", "--rehearse"
    )
    assert code == 1
    assert "nothing" in of(findings, "error")["rehearsal"]["what"]


def test_the_gain_of_sharing_is_told(doctor):
    _, findings = doctor()
    [told] = [f for f in findings if f["check"] == "sharing"]
    *phases, whole = told["what"].splitlines()[2:]
    assert [line.split("  ")[0] for line in phases] == ["generation", "old log-probs", "update"]
    short, medium, long = (float(x) for x in whole.replace("x", " ").split()[2:5])
    assert 2 > short > medium > long > 1  # two answers a prompt: at most twice
    _, findings = doctor("worker.actor.share_prefix=never")
    [told] = [f for f in findings if f["check"] == "sharing"]
    assert told["level"] == "note"
    assert told["where"] == "worker.actor.share_prefix"
