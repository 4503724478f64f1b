"""What travels between the driver and the workers: one row per prompt, a group whole, in EasyR1's DataProto.

EasyR1 deals the rows of a DataProto to the ranks in equal consecutive chunks. So a group stays on one rank,
and its pictures travel once. A row holds a `Parcel`: torch would pickle every tensor by itself, at a tenth of
a millisecond each, which is seconds of a step.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from verl.protocol import DataProto

from gmpo_vl.types import Example, Group, Prompt, Response, Sampling

SMALL = 16 * 1024  # bytes: up to this a tensor is copied into the pickle


class Parcel:
    """Something whose tensors travel as numpy arrays and arrive as tensors of their own, on the CPU.

    It is pickled in one go. Ray copies the large tensors as they are: they are buffers of pickle's protocol
    5.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Parcel], tuple[Any, ...]]:
        buffers: list[pickle.PickleBuffer] = []

        def along(buffer: pickle.PickleBuffer) -> bool:
            """Whether this buffer is copied into the pickle."""
            large = buffer.raw().nbytes > SMALL
            if large:
                buffers.append(buffer)
            return not large

        file = io.BytesIO()
        _Pickler(file, protocol=5, buffer_callback=along if protocol >= 5 else None).dump(self.content)
        return _open, (file.getvalue(), buffers)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return (_tensor, (value.numpy(),)) if type(value) is torch.Tensor else NotImplemented


def _open(pickled: bytes, buffers: Sequence[Any]) -> Parcel:
    """Only ever called by Ray's own pickle, on what another process of the same run packed."""
    return Parcel(pickle.loads(pickled, buffers=buffers))


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A copy: what Ray hands over is read-only and shared."""
    return torch.from_numpy(np.array(array))


def prompts_to_proto(
    prompts: Sequence[Prompt], positions: Sequence[int], sampling: Sampling, ranks: int
) -> DataProto:
    """Prompts to be answered. positions: of each in the data order, for the seeds.

    The first ones come again at the end, up to a multiple of `ranks`; nobody reads their answers.
    """
    wanted = [i % len(prompts) for i in range(len(prompts) + -len(prompts) % ranks)]
    return DataProto.from_dict(
        tensors={"position": torch.tensor([positions[i] for i in wanted])},
        non_tensors={"prompt": parcels([without_text(prompts[i]) for i in wanted])},
        meta_info={"sampling": sampling},
    )


def asked(data: DataProto) -> tuple[list[Prompt], list[int], Sampling]:
    """What `prompts_to_proto` put in: prompts, positions and how to sample."""
    return contents(data, "prompt"), data.batch["position"].tolist(), data.meta_info["sampling"]


def answers_to_proto(answers: Sequence[list[Response]]) -> DataProto:
    """Responses per prompt; prompts do not travel back."""
    return DataProto(non_tensor_batch={"responses": parcels(answers)})


def answers_of(data: DataProto) -> list[list[Response]]:
    return contents(data, "responses")


def filled_up(groups: Sequence[Group], ranks: int) -> list[Group]:
    """Copies come at the end, up to a multiple of `ranks`; nobody reads their results."""
    short = -len(groups) % ranks
    return [*groups, *(replace(groups[i % len(groups)], key=f"copy {i}") for i in range(short))]


def groups_to_proto(groups: Sequence[Group], **meta: Any) -> DataProto:
    """Groups in this order; texts, scores and verdicts stay with the driver.

    meta_info["most_tokens"]: the most that all responses of one group have together.
    """
    meta["most_tokens"] = max(sum(len(r.ids_T) for r in group.responses) for group in groups)
    light = [without_texts(group) for group in groups]
    return DataProto.from_dict(non_tensors={"group": parcels(light)}, meta_info=meta)


def groups_of(data: DataProto) -> list[Group]:
    return contents(data, "group")


def joined(log_probs: Sequence[Sequence[torch.Tensor]], data: DataProto) -> torch.Tensor:
    """Of each group's each response (T,): (groups, L), those of a group one after the other, then zeros.

    data: from `groups_to_proto`, which says how long the longest is: L is the same on every rank.
    """
    of_groups, longest = [torch.cat(list(of_group)) for of_group in log_probs], data.meta_info["most_tokens"]
    return torch.stack([pad(of_group, (0, longest - len(of_group))) for of_group in of_groups])


def taken_apart(groups: Sequence[Group], log_probs_NL: torch.Tensor) -> list[list[torch.Tensor]]:
    """(T,) of each group's each response, from what `joined` made of them."""
    found = []
    for group, log_probs_L in zip(groups, log_probs_NL):
        lengths = [len(response.ids_T) for response in group.responses]
        found.append([x_T.clone() for x_T in log_probs_L[: sum(lengths)].split(lengths)])
    return found


def without_texts(group: Group) -> Group:
    """What a pass reads of a group. Responses that share a prompt share it there, too: it travels once."""
    prompts = {id(prompt): without_text(prompt) for prompt in [group.prompt, *group.prompts]}

    def light(response: Response) -> Response:
        turn = response.turn
        if turn is not None:
            turn = replace(turn, prompt=prompts[id(turn.prompt)], action="", seen="", reason="")
        return replace(response, text="", turn=turn)

    responses = [light(response) for response in group.responses]
    return replace(group, prompt=prompts[id(group.prompt)], responses=responses, scores=[], verdicts=[])


def without_text(prompt: Prompt) -> Prompt:
    """The prompt as the model sees it, with its row's name alone: no texts, and no files of pictures."""
    return replace(prompt, example=Example(prompt.example.id, "", ""), text="")


def parcels(values: Sequence[Any]) -> np.ndarray:
    return as_objects([Parcel(value) for value in values])


def contents(data: DataProto, key: str) -> list[Any]:
    return [parcel.content for parcel in data.non_tensor_batch[key]]


def as_objects(values: Sequence[Any]) -> np.ndarray:
    """A one-dimensional array, of lists too."""
    return np.fromiter(values, dtype=object, count=len(values))
