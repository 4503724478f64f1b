"""The vLLM rollout, against a stand-in that keeps what it is asked (no vLLM runs on these machines)."""

from functools import partial

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from verl.workers.rollout import vllm_rollout_spmd
from vllm import LLM

from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.rollout import GMPOvLLMRollout
from gmpo_vl.engines.easyr1.serialisation import answers_of, prompts_to_proto
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.rollout.vllm import BAN
from gmpo_vl.setup import ends_of, load_split, sampling_of
from gmpo_vl.types import Example


@pytest.fixture
def rollout(make_config, monkeypatch, tmp_path):
    yield from made_rollout(make_config, monkeypatch, tmp_path)


def made_rollout(make_config, monkeypatch, tmp_path, **more):
    config = make_config("worker.rollout.temperature=0.7")
    monkeypatch.setenv("RANK", "0")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        processor = load_processor(config.worker.actor.model.model_path)
        made = GMPOvLLMRollout(
            model_path="tiny",
            config=to_easyr1(config, 3).worker.rollout,
            tokenizer=processor.tokenizer,
            processor=None,
            **more,
        )
        made.begin(processor, (396, 397), ends_of(config, processor))
        yield made, config, processor
    finally:
        dist.destroy_process_group()


def ask(rollout, config, processor, positions):
    prompts = load_split(config, config.data.train_files, processor).encode([0, 1])
    prompts.append(encode_prompt(Example("text", "What is 1 + 2?", "3"), processor))
    data = prompts_to_proto(prompts, positions, sampling_of(config), ranks=1)
    answers = answers_of(rollout.generate_sequences(data))
    return prompts, answers, rollout.inference_engine.asked[-1]


def test_vllm_is_asked_for_processed_log_probs_and_easyr1_s_module_is_left_alone(rollout):
    made, _, _ = rollout
    assert made.inference_engine.kwargs["logprobs_mode"] == "processed_logprobs"
    assert made.inference_engine.kwargs["load_format"] == "dummy"
    assert vllm_rollout_spmd.LLM is LLM


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (64, 64), (257, 320)])
def test_vllm_is_asked_for_a_rank_of_adapters_that_it_knows(make_config, monkeypatch, tmp_path, rank, room):
    given = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}  # as EasyR1's worker
    for made, _, _ in made_rollout(make_config, monkeypatch, tmp_path, lora_kwargs=given):
        assert made.inference_engine.kwargs["max_lora_rank"] == room
        assert made.inference_engine.kwargs["load_format"] == "safetensors"
        assert made.lora_kwargs["enable_lora"]
    assert given["max_lora_rank"] == rank


def test_every_vision_id_is_banned_and_every_sample_has_its_own_seed(rollout):
    made, config, processor = rollout
    _, _, (_, settings) = ask(made, config, processor, [0, 1, 2])
    _, _, (_, later) = ask(made, config, processor, [3, 4, 5])
    for params in settings:
        assert params.logit_bias == {396: BAN, 397: BAN}
        assert (params.n, params.temperature, params.logprobs) == (4, 0.7, 0)
        assert (params.stop_token_ids, params.ignore_eos) == ([396, 394], False)
    # vLLM counts on from a prompt's seed for its n samples.
    seeds = [params.seed + k for params in (*settings, *later) for k in range(params.n)]
    assert len(set(seeds)) == len(seeds) == 24
    assert max(seeds) < 2**63


def test_nothing_stops_where_ends_are_ignored(make_config, monkeypatch, tmp_path):
    ignoring = partial(make_config, "worker.rollout.ignore_eos=true")
    for made, config, processor in made_rollout(ignoring, monkeypatch, tmp_path):
        _, _, (_, settings) = ask(made, config, processor, [0, 1, 2])
        assert {(tuple(params.stop_token_ids), params.ignore_eos) for params in settings} == {((), True)}


def test_an_end_token_in_the_last_place_ends_an_answer(rollout):
    """vLLM says that the limit did."""
    made, config, processor = rollout
    made.ends = (8,)
    _, answers, _ = ask(made, config, processor, [0, 1, 2])
    assert all(response.finished for response in answers[0])


def test_a_ban_leaves_probability_zero():
    logits = torch.tensor([3.0, 50.0 + BAN, -2.0])
    assert logits.softmax(-1)[1] == 0


def test_prompts_go_in_unexpanded_with_their_pictures_as_the_trainer_sees_them(rollout):
    made, config, processor = rollout
    prompts, _, (inputs, _) = ask(made, config, processor, [0, 1, 2])
    for prompt, given in zip(prompts, inputs):
        image_tokens = given["prompt_token_ids"].count(processor.image_token_id)
        assert image_tokens == len(prompt.images)
        expanded = len(prompt.ids_P) - len(given["prompt_token_ids"])
        counts = [processor.image.num_tokens(*image.shape[:2]) for image in prompt.images]
        assert expanded == sum(counts) - len(counts)
        pictures = given.get("multi_modal_data", {}).get("image", [])
        assert [picture.size for picture in pictures] == [(x.shape[1], x.shape[0]) for x in prompt.images]


def test_answers_carry_log_probs_ends_and_seeds(rollout):
    made, config, processor = rollout
    _, answers, (_, settings) = ask(made, config, processor, [0, 1, 2])
    first = answers[0]
    assert [r.finished for r in first] == [True, False, True, False]  # the stand-in stops every second one
    assert first[0].ids_T.tolist() == [7, 8]
    assert first[0].rollout_log_probs_T.tolist() == [-0.5, -0.25]
    assert [r.seed for r in first] == [settings[0].seed + k for k in range(4)]


def test_the_real_ids_of_a_model_are_all_banned(make_config, rollout):
    from gmpo_vl.models.loading import load_model

    _, config, _ = rollout
    model = load_model(config.worker.actor.model.model_path)
    assert len(banned_ids(model.config)) >= 4
