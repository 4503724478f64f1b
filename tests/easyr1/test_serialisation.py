"""What travels between the driver and the workers."""

import pickle

import pytest
import torch

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from ray import cloudpickle

from gmpo_vl.engines.easyr1.serialisation import (
    answers_of,
    answers_to_proto,
    filled_up,
    groups_of,
    groups_to_proto,
)
from gmpo_vl.types import Example, Group, Prompt, Response

SIDE = 504


def group_of(i, responses=5):
    """With a picture as files hold it and as the model sees it."""
    draw = torch.Generator().manual_seed(i)
    picture = torch.randint(0, 255, (SIDE, SIDE, 3), generator=draw, dtype=torch.uint8)
    ids = torch.arange(40 + i)
    prompt = Prompt(
        Example(f"row-{i}", "<image>", "3", (b"\xff" * 100_000,)),
        "text",
        ids,
        (picture,),
        torch.tensor([[1, SIDE // 14, SIDE // 14]]),
        ids.expand(3, -1),
    )
    answers = [
        Response(torch.arange(k), torch.randn(k, generator=draw), "x" * 2000, True, k)
        for k in range(1, responses + 1)
    ]
    old = [answer.rollout_log_probs_T + 1 for answer in answers]
    return Group(f"row-{i}@0", prompt, answers, advantages_G=torch.arange(5.0), old_log_probs=old)


def sent(data, protocol=5):
    """(what arrives, bytes of the pickle, bytes of the buffers beside it)."""
    if protocol < 5:  # as torch's collectives of objects do
        pickled = pickle.dumps(data, protocol=protocol)
        return pickle.loads(pickled), len(pickled), 0
    buffers = []
    pickled = cloudpickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    shared = [memoryview(bytes(buffer.raw())).toreadonly() for buffer in buffers]  # Ray's memory
    return pickle.loads(pickled, buffers=shared), len(pickled), sum(map(len, shared))


@pytest.mark.parametrize("protocol", [4, 5])
def test_groups_arrive_as_they_are_with_tensors_of_their_own(protocol):
    groups = [group_of(i) for i in range(3)]
    data, _, _ = sent(groups_to_proto(filled_up(groups, 2), way="shared"), protocol)
    assert data.meta_info["way"] == "shared"
    assert [group.key for group in groups_of(data)] == [*(group.key for group in groups), "copy 0"]
    for there, here in zip(groups_of(data), groups):
        assert torch.equal(there.prompt.images[0], here.prompt.images[0])
        assert torch.equal(there.prompt.position_ids_3P, here.prompt.position_ids_3P)
        assert torch.equal(there.advantages_G, here.advantages_G)
        for k, response in enumerate(here.responses):
            assert torch.equal(there.responses[k].ids_T, response.ids_T)
            assert torch.equal(there.responses[k].rollout_log_probs_T, response.rollout_log_probs_T)
            assert torch.equal(there.old_log_probs[k], here.old_log_probs[k])
        there.prompt.images[0].zero_()  # it may be written to, and what was sent stays
        assert here.prompt.images[0].any()


def test_a_picture_travels_once_per_group_beside_the_pickle_and_not_as_its_file():
    groups = [group_of(i) for i in range(4)]
    _, pickled, beside = sent(groups_to_proto(groups))
    assert beside == 4 * SIDE * SIDE * 3
    assert pickled < 4 * 10_000


def test_answers_arrive_with_their_texts():
    answers = [group.responses for group in (group_of(0), group_of(1))]
    data, _, _ = sent(answers_to_proto(answers))
    for there, here in zip(answers_of(data), answers):
        assert [r.text for r in there] == [r.text for r in here]
        assert all(torch.equal(a.ids_T, b.ids_T) for a, b in zip(there, here))
