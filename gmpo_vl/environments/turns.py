"""The text of a turn: task, the last observations with the actions taken, and the observation now, as one
user message.

Templates are jinja files in jinja's sandbox, as those of `data.format_prompt`. Their variables:
    task         the row's problem
    step         the number of this turn, from 1
    history      the last turns, oldest first; each has `number`, `observation` and `action`
    observation  what is seen now
    actions      what may be answered now, a list that may be empty
Shipped (templates/NAME.jinja): `turn`, for any environment, and `alfworld`.

A picture goes where the template puts the tag of its observation; one that the template leaves out is left
out, and one that it shows twice is there twice. Other text that looks like a tag is broken by a blank (`<
image>`). Control tokens of the model that a text spells out are plain text in the prompt, as in any row's
problem (models/control.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gmpo_vl.data.templates import CONTROL_MARK, IMAGE_TAG, TemplateError, compiled
from gmpo_vl.environments import Observation
from gmpo_vl.types import Example, ImageSource

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
# A private character. A number between two of them stands for a picture while a template is rendered.
_MARK = "\U000f5a18"
_MARKED = re.compile(f"{_MARK}(\\d+){_MARK}")
_BROKEN_TAG = "< image>"

Past = Sequence[tuple[Observation, str]]  # a turn's observation and the action that was taken


def turn_example(
    example: Example, past: Past, now: Observation, history_length: int, template: str
) -> Example:
    """The row as this turn's prompt: `problem` is the turn's text, `images` its pictures in order of tags.

    past: all turns before, of which the template sees the last `history_length`.   template: jinja text.
    Raises ValueError for tags that do not fit the pictures, and TemplateError where the template cannot be
    rendered.
    """
    images: list[ImageSource] = []

    def marked(text: str, pictures: Sequence[ImageSource]) -> str:
        pieces = plain(text, len(pictures)).split(IMAGE_TAG)
        numbers = range(len(images), len(images) + len(pictures))
        images.extend(pictures)
        return pieces[0] + "".join(f"{_MARK}{n}{_MARK}{piece}" for n, piece in zip(numbers, pieces[1:]))

    first = max(0, len(past) - history_length)
    history = [
        {"number": number, "observation": marked(seen.text, seen.images), "action": plain(action, 0)}
        for number, (seen, action) in enumerate(past[first:], start=first + 1)
    ]
    values = {
        "task": marked(example.problem, example.images),
        "step": len(past) + 1,
        "history": history,
        "observation": marked(now.text, now.images),
        "actions": [plain(action, 0) for action in now.actions],
    }
    try:
        text = compiled(template).render(values)
    except Exception as error:  # a template is anybody's code
        raise TemplateError(f"the turn's template cannot be rendered: {error}") from error
    shown = [images[int(n)] for n in _MARKED.findall(text)]
    text = _MARKED.sub(IMAGE_TAG, text.replace(IMAGE_TAG, _BROKEN_TAG))
    return replace(example, problem=text, images=tuple(shown))


def plain(text: str, num_images: int) -> str:
    """The text as a prompt can hold it, with one `<image>` tag per picture.

    Without pictures its tags are broken; halves of surrogate pairs and the private characters that stand for
    something in prompts become U+FFFD. Raises ValueError for tags that do not fit the pictures.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = re.sub(f"[{_MARK}{CONTROL_MARK}]", "\N{REPLACEMENT CHARACTER}", text)
    if num_images == 0:
        return text.replace(IMAGE_TAG, _BROKEN_TAG)
    if text.count(IMAGE_TAG) != num_images:
        raise ValueError(f"{text.count(IMAGE_TAG)} {IMAGE_TAG} tags for {num_images} images")
    return text


def load_turn_template(name_or_path: str | Path, folder: Path | None = None) -> str:
    """The text of a shipped template (by name) or of a file, tried on sample turns.

    folder: where a relative path begins; the working directory without one. Raises TemplateError where there
    is no such file, where it is no jinja, and where it leaves out the observation, its picture or the actions
    taken.
    """
    names = sorted(path.stem for path in TEMPLATE_FOLDER.glob("*.jinja"))
    if str(name_or_path) in names:
        path = TEMPLATE_FOLDER / f"{name_or_path}.jinja"
    else:
        path = (folder or Path()) / name_or_path
    if not path.is_file():
        raise TemplateError(
            f"the template of turns: there is no file {path}; give a path, or one of {', '.join(names)}"
        )
    template = path.read_text(encoding="utf-8").strip()
    if IMAGE_TAG in template:
        raise TemplateError(f"{path}: pictures come with their observations; take {IMAGE_TAG} out")
    task, seen = (
        Example("sample", "The sample task.", ""),
        Observation("A sample <image>", (b"",), ("go", "look")),
    )
    try:
        first = turn_example(task, [], seen, 1, template)
        second = turn_example(task, [(seen, "sample action")], seen, 1, template)
    except ValueError as error:
        raise TemplateError(f"{path}: {error}") from error
    if first.problem.count(seen.text) != 1 or len(first.images) != 1:
        raise TemplateError(
            f"{path}: a turn must show its observation once: write {{{{ observation }}}} in it"
        )
    if "sample action" not in second.problem:
        raise TemplateError(
            f"{path}: a turn must show the actions taken: write turn.action for each of `history`"
        )
    return template
