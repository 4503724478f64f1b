"""Which backend answers in what chunks: results do not depend on it, and a begun one goes on in its own."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from interruptions import Interrupted
from tiny_families import save_tiny_family

from gmpo_vl.evaluation import backends, prepare, sharing
from gmpo_vl.evaluation.backends import BackendChoice, backend_here, chunk_of
from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.loading import load_for_inference
from gmpo_vl.rollout import hf, vllm
from gmpo_vl.runs import EvaluationFolder

ROOT = Path(__file__).parents[2]
NAME = "small+data=test"


@pytest.fixture
def as_vllm(monkeypatch):
    """`--backend vllm` without the package: our sampler answers. Gives each call's number of prompts."""
    calls: list[int] = []

    def generate(engine, processor, prompts, sampling, progress=None):
        calls.append(len(prompts))
        options = hf.GenerateOptions(progress=progress)
        return hf.generate(engine, processor, prompts, sampling, options=options)

    monkeypatch.setattr(vllm, "check_vllm", lambda folder: None)
    monkeypatch.setattr(vllm, "engine_version", lambda: "0.11.0")
    monkeypatch.setattr(vllm, "load_engine", lambda folder, *_: load_for_inference(folder))
    monkeypatch.setattr(vllm, "generate", generate)
    return calls


@pytest.fixture
def arguments(small_eval):
    return [*small_eval, "--backend", "vllm"]


@pytest.mark.parametrize(
    ("questions", "n", "copies", "size"),
    [
        (601, 16, 1, 201),
        (601, 16, 2, 151),
        (601, 16, 8, 76),
        (500, 1, 1, 500),
        (674, 1, 1, 337),
        (3, 16, 8, 1),
        (1, 1, 1, 1),
        (7, 5000, 1, 1),
    ],
)
def test_vllm_gets_few_large_chunks_as_many_for_every_copy(questions, n, copies, size):
    assert chunk_of(BackendChoice("vllm", copies=copies), questions, n) == size
    assert chunk_of(BackendChoice("transformers", copies=copies), questions, n) is None


def test_results_are_the_same_whatever_the_chunks(
    arguments, as_vllm, tmp_path, gmpo_vl, monkeypatch, content
):
    gmpo_vl(*arguments, "--out", tmp_path / "large")
    assert as_vllm == [14]
    monkeypatch.setattr(backends, "VLLM_SAMPLES", 15)
    gmpo_vl(*arguments, "--out", tmp_path / "small")
    assert as_vllm == [14, 5, 5, 4]
    large, small = (content(tmp_path / out / NAME) for out in ("large", "small"))
    plans = [json.loads(found.pop("plan.json")) for found in (large, small)]
    assert large == small
    assert [plan.pop("chunk") for plan in plans] == [14, 5]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("old", [False, True], ids=["another chunk", "a plan before vLLM had its own"])
def test_what_was_begun_in_other_chunks_goes_on_in_them(
    old, arguments, as_vllm, tmp_path, gmpo_vl, monkeypatch, content
):
    gmpo_vl(*arguments, "--out", tmp_path / "whole")
    write = EvaluationFolder.write_chunk

    def killed(self, number, *rest):
        if number == 3:
            raise Interrupted
        write(self, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(backends, "VLLM_SAMPLES", 6)
        patched.setattr(EvaluationFolder, "write_chunk", killed)
        with pytest.raises(Interrupted):
            gmpo_vl(*arguments, "--out", tmp_path / "begun")
    plan_file = tmp_path / "begun" / NAME / "plan.json"
    plan = json.loads(plan_file.read_text())
    assert plan["chunk"] == plan["protocol"]["chunk"] == 2
    if old:
        del plan["chunk"]
        plan_file.write_text(json.dumps(plan))
    as_vllm.clear()
    gmpo_vl(*arguments, "--out", tmp_path / "begun")
    assert as_vllm == [2] * 4, "the other three were there"
    whole, begun = (content(tmp_path / out / NAME) for out in ("whole", "begun"))
    assert whole.pop("plan.json") != begun.pop("plan.json")
    assert whole == begun


def test_shards_in_other_chunks_and_a_plan_without_sense_are_refused(arguments, as_vllm, tmp_path, gmpo_vl):
    for out, shard in (("a", "1/2"), ("b", "2/3")):
        gmpo_vl(*arguments, "--out", tmp_path / out, "--shard", shard)
    said = gmpo_vl("eval", "merge", tmp_path / "a" / NAME, tmp_path / "b" / NAME, code=2)
    assert "chunk is 7 there and 5 now" in said
    gmpo_vl(*arguments, "--out", tmp_path / "a", "--shard", "2/2")
    gmpo_vl("eval", "merge", tmp_path / "a" / NAME)
    plan_file = tmp_path / "b" / NAME / "plan.json"
    plan = plan_file.read_text()
    for wrong in ('"5"', "0", "true", "null", "2.5"):
        plan_file.write_text(plan.replace('"chunk": 5', f'"chunk": {wrong}'))
        said = gmpo_vl(*arguments, "--out", tmp_path / "b", "--shard", "2/3", code=2)
        assert "plan.json: chunk is" in said


def test_another_backend_in_a_begun_folder_is_refused(arguments, as_vllm, whole, tmp_path, gmpo_vl):
    begun = shutil.copytree(whole, tmp_path / NAME)
    (begun / "results.json").unlink()
    said = gmpo_vl(*arguments, "--out", tmp_path, code=2)
    assert "backend.name is transformers there and vllm now" in said
    assert "; chunk is" not in said


def test_model_and_data_are_hashed_once_for_all_workers(
    small_eval, tmp_path, gmpo_vl, monkeypatch, whole, content
):
    asked = []

    def in_this_process(prepared, folder, count, progress):
        for i in range(count):
            sharing.answer_shard(prepared.again(), folder.folder, (i + 1, count))

    def counted(name):
        real = getattr(prepare, name)
        monkeypatch.setattr(prepare, name, lambda *of: asked.append(name) or real(*of))

    counted("model_hash")
    counted("data_hash")
    monkeypatch.setattr(sharing, "run_workers", in_this_process)
    gmpo_vl(*small_eval, "--out", tmp_path, "--workers", 3)
    assert sorted(asked) == ["data_hash", "model_hash"]
    assert content(tmp_path / NAME) == content(whole)


def test_a_model_is_read_once_until_it_changes(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    prepare._hash_of.cache_clear()
    first = [prepare.model_hash(folder) for _ in range(3)]
    assert len(set(first)) == 1 == prepare._hash_of.cache_info().misses
    with (folder / "config.json").open("a") as file:
        file.write("\n")
    assert prepare.model_hash(folder) != first[0]


def test_the_backend_is_taken_by_what_is_there(tiny, tmp_path, monkeypatch):
    there = {"package": False, "gpu": False, "version": "0.11.0"}
    monkeypatch.setattr(backends, "find_spec", lambda name: there["package"] or None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there["gpu"])
    monkeypatch.setattr(vllm, "engine_version", lambda: there["version"])
    assert backend_here(tiny) == ("transformers", "vLLM is not installed here")
    there["package"] = True
    assert backend_here(tiny) == ("transformers", "vLLM is installed, but there is no GPU")
    there["gpu"] = True
    assert backend_here(tiny) == ("vllm", "vLLM 0.11.0 is installed, and there is a GPU")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert backend_here(tmp_path)[0] == "transformers"
    there["version"] = "0.11.0+cpu"
    assert backend_here(tiny) == ("transformers", "vLLM 0.11.0+cpu was built for CPUs")


@pytest.mark.skipif(not TRANSFORMERS_5, reason="4.57 does not know the kind")
def test_a_kind_that_vllm_cannot_know_is_not_handed_to_it(tmp_path, monkeypatch):
    folder = save_tiny_family(tmp_path / "model", "qwen3_5")
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    said = "a 'qwen3_5' needs transformers 5, and vLLM 0.11 runs with 4"
    with pytest.raises(ValueError, match=f"{folder}: {said}; leave --backend out"):
        vllm.check_vllm(folder)
    monkeypatch.setattr(backends, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(vllm, "engine_version", lambda: "0.11.0")
    assert backend_here(folder) == ("transformers", said)


def test_auto_says_what_it_took_and_why(small_eval, whole, tmp_path, gmpo_vl, monkeypatch, content):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    said = gmpo_vl(*small_eval, "--backend", "auto", "--out", tmp_path)
    assert said.splitlines()[0] == "answers come from transformers: vLLM is not installed here"
    assert content(tmp_path / NAME) == content(whole)
    assert "no such model folder" in gmpo_vl("eval", "/no/where", "--backend", "auto", code=2)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "eval").glob("*.sh")))
def test_scripts_take_the_fastest_backend_unless_one_is_named(script, tmp_path):
    command = tmp_path / "gmpo-vl"
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)

    def asked(*options: str, **environment: str) -> list[str]:
        said = subprocess.run(
            ["bash", ROOT / "eval" / script, "MODEL", *options],
            env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        words = said.stdout.split()
        return [words[i + 1] for i, word in enumerate(words) if word == "--backend"]

    assert asked() == ["auto"]
    assert asked(BACKEND="transformers") == ["transformers"]
    assert asked("OUT", "--backend", "vllm", BACKEND="transformers")[-1] == "vllm"
