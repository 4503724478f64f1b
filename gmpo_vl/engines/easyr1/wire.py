"""What travels between the driver and the workers: one row per prompt, a group whole, in EasyR1's DataProto.

EasyR1 deals the rows of a DataProto to the ranks in equal consecutive chunks, so a group stays on one rank and keeps its
key and its pictures, which travel once per group.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from verl.protocol import DataProto

from gmpo_vl.data.types import Prompt
from gmpo_vl.rollout.types import Group, Response, Sampling


def prompts_to_proto(
    prompts: Sequence[Prompt], positions: Sequence[int], sampling: Sampling, ranks: int
) -> DataProto:
    """Prompts to be answered. positions: of each in the data order, for the seeds. Filled up to a multiple of `ranks`
    with the first ones again, whose answers nobody reads."""
    short = -len(prompts) % ranks
    wanted = [i % len(prompts) for i in range(len(prompts) + short)]
    return DataProto.from_dict(
        tensors={"position": torch.tensor([positions[i] for i in wanted])},
        non_tensors={"prompt": as_objects([prompts[i] for i in wanted])},
        meta_info={"sampling": sampling},
    )


def asked(data: DataProto) -> tuple[list[Prompt], list[int], Sampling]:
    """What `prompts_to_proto` put in, on the rank that is to answer it."""
    return (
        list(data.non_tensor_batch["prompt"]),
        data.batch["position"].tolist(),
        data.meta_info["sampling"],
    )


def answers_to_proto(answers: Sequence[list[Response]]) -> DataProto:
    """Responses per prompt; prompts do not travel back."""
    return DataProto(non_tensor_batch={"responses": as_objects(list(answers))})


def groups_to_proto(groups: Sequence[Group], ranks: int, **meta: Any) -> DataProto:
    """Groups as they are, filled up to a multiple of `ranks` with copies at the end, whose results nobody reads.

    Texts, scores and verdicts stay with the driver.
    """
    short = -len(groups) % ranks
    copies = [dataclasses.replace(groups[i % len(groups)], key=f"copy {i}") for i in range(short)]
    light = [dataclasses.replace(group, scores=[], verdicts=[]) for group in (*groups, *copies)]
    return DataProto.from_dict(
        non_tensors={"group": as_objects(light)},
        meta_info=meta,
    )


def groups_of(data: DataProto) -> list[Group]:
    return list(data.non_tensor_batch["group"])


def as_objects(values: Sequence[Any]) -> np.ndarray:
    """A one-dimensional array of objects; numpy would look into lists."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array
