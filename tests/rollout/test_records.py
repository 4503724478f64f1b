"""Groups as records: every picture is kept once, whoever else keeps it at the same time."""

import threading
import time

import pytest
import torch

from gmpo_vl.rollout.scoring import pictures_kept, records_of, to_records
from gmpo_vl.runs import Run
from gmpo_vl.types import Example, Group, Prompt, Response


def test_each_record_names_its_own_pictures_and_each_is_kept_once(tmp_path):
    pictures = [torch.randint(0, 255, (112, 112, 3), dtype=torch.uint8) for _ in range(3)]
    groups = []
    for i in range(30):
        ids = torch.arange(4)
        images = (pictures[i % 3], pictures[(i + 1) % 3])
        prompt = Prompt(Example(f"row-{i}", "?", "1"), "", ids, images, torch.zeros(2, 3), ids.expand(3, -1))
        answer = Response(torch.arange(2), torch.zeros(2), "1", True, 0)
        groups.append(Group(f"row-{i}@0", prompt, [answer, answer], [{"overall": 1.0}] * 2, [None] * 2))
    run = Run(tmp_path / "run").create()
    records = to_records(iter(groups), run.add_image)
    assert [record.id for record in records] == [f"row-{i}" for i in range(30) for _ in range(2)]
    digests = [run.add_image(picture.numpy()) for picture in pictures]
    for i, record in enumerate(records[::2]):
        assert record.images == [digests[i % 3], digests[(i + 1) % 3]]
    kept = sorted(path.name for path in (run.folder / "images").iterdir())
    assert kept == sorted(f"{digest}.webp" for digest in digests)


def groups_with_a_picture(count: int) -> list[Group]:
    groups = []
    for i in range(count):
        ids, picture = torch.arange(4), torch.full((28, 28, 3), i, dtype=torch.uint8)
        prompt = Prompt(
            Example(f"row-{i}", "?", "1"), "", ids, (picture,), torch.zeros(1, 3), ids.expand(3, -1)
        )
        answer = Response(torch.arange(2), torch.zeros(2), "1", True, 0)
        groups.append(Group(f"row-{i}@0", prompt, [answer], [{"overall": 1.0}], [None]))
    return groups


def test_other_work_is_done_while_pictures_are_kept():
    other_work = threading.Event()

    def add_image(pixels):
        assert other_work.wait(60), "nobody worked meanwhile"
        return str(pixels.max())

    groups = groups_with_a_picture(20)
    with pictures_kept([group.prompt for group in groups], add_image) as pictures:
        other_work.set()
        records = records_of(groups, pictures)
    assert [record.images for record in records] == [[str(i)] for i in range(20)]


def test_a_picture_that_cannot_be_kept_is_the_records_error():
    def add_image(pixels):
        if pixels.max() == 7:
            raise OSError("the disk is full")
        return str(pixels.max())

    with pytest.raises(OSError, match="the disk is full"):
        to_records(groups_with_a_picture(9), add_image)


def test_nothing_is_kept_any_more_when_the_work_has_failed():
    begun, pictures = [], []

    def add_image(pixels):
        begun.append(pixels)
        while not any(future.cancelled() for future in pictures):
            time.sleep(0.001)  # a picture that takes as long as the failure
        return ""

    def fail():
        with pictures_kept([group.prompt for group in groups_with_a_picture(40)], add_image) as kept:
            pictures.extend(kept)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert all(future.done() for future in pictures)
    assert len(begun) == sum(not future.cancelled() for future in pictures) < 40
