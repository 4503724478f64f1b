"""Ray actors and vLLM: the same chunks and groups; a missing package is said before anything is loaded."""

import importlib.util
import json

import pytest
import torch

from gmpo_vl.data.rows import Columns
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import PromptSettings, load_prompts
from gmpo_vl.rollout.vllm import engine_input
from gmpo_vl.runs import EvaluationFolder


@pytest.fixture
def arguments(tiny, diagrams, small_protocol):
    return ["eval", tiny, "--protocol", small_protocol, "--data", diagrams, "--grader", "paper"]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip(
        "ray", reason="needs ray, which comes with EasyR1's packages (make test-easyr1)"
    )
    threads = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=threads)
    yield
    ray.shutdown()


def test_two_ray_actors_give_the_same_bytes_and_go_on_after_a_kill(
    cluster, arguments, tmp_path, gmpo_vl, monkeypatch, content
):
    torch.set_num_threads(1)
    gmpo_vl(*arguments, "--out", tmp_path / "whole")
    real, received = EvaluationFolder.receive, []

    def receive(folder, contents):
        if len(received) == 2:
            raise KeyboardInterrupt
        received.append(contents)
        real(folder, contents)

    with monkeypatch.context() as patched:
        patched.setattr(EvaluationFolder, "receive", receive)
        assert "gmpo-vl: stopped" in gmpo_vl(*arguments, "--out", tmp_path / "actors", "--ray", 2, code=130)
    name = "small+data=test"
    assert len(list((tmp_path / "actors" / name / "chunks").glob("*.jsonl"))) == 2
    gmpo_vl(*arguments, "--out", tmp_path / "actors", "--ray", 2)
    assert content(tmp_path / "actors" / name) == content(tmp_path / "whole" / name)


def test_more_ray_actors_than_cores_are_refused(cluster, arguments, tmp_path, gmpo_vl):
    assert "--ray 3: the cluster has 2 CPUs" in gmpo_vl(*arguments, "--out", tmp_path, "--ray", 3, code=2)


def test_what_is_missing_or_contradicts_is_said_in_a_sentence(arguments, tmp_path, gmpo_vl, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        patched.setattr("gmpo_vl.evaluation.sharing.find_spec", lambda name: None)
        patched.setattr("gmpo_vl.rollout.vllm.find_spec", lambda name: None)
        assert "pip install ray" in gmpo_vl(*arguments, "--out", tmp_path, "--ray", 2, code=2)
        assert "vLLM is not installed" in gmpo_vl(*arguments, "--backend", "vllm", code=2)
    assert "one of transformers, vllm" in gmpo_vl(*arguments, "--backend", "tgi", code=2)
    assert "give one of them" in gmpo_vl(*arguments, "--ray", 2, "--workers", 2, code=2)
    assert "no such model folder" in gmpo_vl("eval", "/no/where", "--limit", 2, code=2)
    assert "worker.actor" not in gmpo_vl("eval", "/no/where", "--limit", 2, code=2)


def test_vllm_is_given_one_image_token_per_picture(tiny, diagrams):
    processor = load_processor(tiny)
    prompts = load_prompts(str(diagrams), PromptSettings(Columns()), processor)
    for prompt in prompts.encode(range(4)):
        given = engine_input(prompt, processor)
        ids = torch.tensor(given["prompt_token_ids"])
        assert int((ids == processor.image_token_id).sum()) == len(prompt.images)
        kept = prompt.ids_P[prompt.ids_P != processor.image_token_id]
        assert torch.equal(ids[ids != processor.image_token_id], kept)
        [picture] = given["multi_modal_data"]["image"]
        assert (picture.height, picture.width) == prompt.images[0].shape[:2]


def greedy(arguments, out, gmpo_vl) -> dict[str, list[str]]:
    """Each backend's answers at temperature 0."""
    said = {}
    for backend in ("transformers", "vllm"):
        gmpo_vl(*arguments, "--temperature", 0, "--n", 1, "--backend", backend, "--out", out / backend)
        [samples] = (out / backend).glob("*/samples.jsonl")
        said[backend] = [json.loads(line)["response"] for line in samples.open()]
    return said


def test_vllm_answers_greedily_as_transformers_do(tiny_text, tmp_path, gmpo_vl):
    pytest.importorskip("vllm.v1", reason="needs vllm, not the stand-in of tests/easyr1")
    rows = [{"problem": f"What is {a} + {a}?", "answer": str(2 * a)} for a in range(6)]
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = [
        "eval",
        tiny_text,
        "--protocol",
        "math500",
        "--template",
        "no",
        "--data",
        data,
        "--max-tokens",
        16,
    ]
    said = greedy(start, tmp_path, gmpo_vl)
    assert said["vllm"] == said["transformers"]


def test_vllm_sees_the_pictures_that_transformers_sees(arguments, tmp_path, gmpo_vl):
    pytest.importorskip("vllm.v1", reason="needs vllm, not the stand-in of tests/easyr1")
    pytest.importorskip("torchvision", reason="vllm needs torchvision for Qwen2.5-VL")
    said = greedy(arguments, tmp_path, gmpo_vl)
    assert len(set(said["transformers"])) > 1
    assert said["vllm"] == said["transformers"]
