"""Groups as records: every picture is kept once, whoever else keeps it at the same time."""

import torch

from gmpo_vl.data.types import Example, Prompt
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.types import Group, Response
from gmpo_vl.runs import Run


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
