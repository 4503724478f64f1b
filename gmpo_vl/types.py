"""The nouns of this project: a row becomes an `Example`, then a `Prompt`; a policy answers it with a `Group`
of `Response`s, drawn as `Sampling` says; the verifier says a `Verdict` about each. Importing this loads no
torch.

Shape letters used all over the project:
    P  tokens of a prompt, image tokens included     T  tokens of a response (padded: of the longest)
    B  responses in a batch                          G  responses per prompt      N  images of a prompt
    Of a game (`Turn`) G are all the turns of all its episodes, where a value is one of a response's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from PIL import Image

# An image that is not decoded yet: encoded bytes, a path, or a PIL image.
ImageSource: TypeAlias = "bytes | str | Image.Image"


@dataclass(frozen=True)
class Example:
    """One row of a data set.

    `problem` carries one `<image>` tag per image. `answer` is a plain string, or a JSON object string written
    by `data.answers.encode_answer` (gold, type, tolerance, choices): EasyR1 hands a reward nothing but that
    column. `id` is unique within its data set and stable between runs. `meta`: the row's other columns, small
    ones. `game`: its column of that name, a text of any length from which an environment makes the row's
    game.
    """

    id: str
    problem: str
    answer: str
    images: tuple[ImageSource, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    game: str = ""


@dataclass(frozen=True)
class Prompt:
    """An example as the model sees it.

    ids_P: int64, every image already expanded to its image tokens.
    images: one uint8 tensor (height, width, 3) per image, resized to whole merged patches. They are turned
        into patches on the device, per micro-batch: fp32 patches of a whole step would be gigabytes.
    image_grid_thw: int64 (N, 3): patches in time, height and width of each image.
    position_ids_3P: int64, mRoPE rows (time, height, width); equal rows for text-only prompts.
    per_token: other inputs that have a value for each token, (P,) each; a response's tokens have 0.
    """

    example: Example
    text: str
    ids_P: torch.Tensor
    images: tuple[torch.Tensor, ...]
    image_grid_thw: torch.Tensor
    position_ids_3P: torch.Tensor
    per_token: dict[str, torch.Tensor] = field(default_factory=dict)

    @cached_property
    def pictures_key(self) -> bytes:
        """The same for prompts with the same pictures in the same order, in every process."""
        return hashlib.blake2b(b"".join(self.picture_keys), digest_size=16).digest()

    @cached_property
    def picture_keys(self) -> tuple[bytes, ...]:
        """The same for pictures of the same pixels, in every process."""
        return tuple(map(_picture_key, self.images))


def _picture_key(image: torch.Tensor) -> bytes:
    digest = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.contiguous().cpu().numpy().data)
    return digest.digest()


@dataclass(frozen=True)
class ImageSettings:
    """An image processor's configuration. Sizes in pixels; `mean` and `std` per channel, in units of 1."""

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    rescale_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def factor(self) -> int:
        """Height and width of a resized image are multiples of this: one merged patch."""
        return self.patch_size * self.merge_size

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Patches in (time, height, width) of a resized image."""
        return 1, height // self.patch_size, width // self.patch_size

    def num_tokens(self, height: int, width: int) -> int:
        """Image tokens of a resized image."""
        return (height // self.factor) * (width // self.factor)


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. Temperature 0 is greedy; `top_k` -1 and `top_p` 1.0 truncate nothing."""

    n: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int = 1
    with_entropy: bool = False  # costs another pass over every token's distribution


@dataclass
class Response:
    """One sampled answer.

    ids_T: int64, the end-of-sequence token included when `finished`.
    rollout_log_probs_T: float32, log pi(token) under the sampler's distribution after temperature and banned
        ids (before top-p / top-k).
    finished: False when the answer was cut at `max_tokens`.
    seed: the seed this sample was drawn with: a function of (run seed, prompt id, occasion, sample index).
    entropy: sum over its tokens of their distributions' entropies in nats, where sampling was asked for it.
    turn: what it answered in a game; None: its group's prompt.
    """

    ids_T: torch.Tensor
    rollout_log_probs_T: torch.Tensor
    text: str
    finished: bool
    seed: int
    entropy: float | None = None
    turn: Turn | None = None


@dataclass(frozen=True)
class Turn:
    """Where a response stands in a game of many turns, and what it led to.

    prompt: what the turn showed. Turns of a group that showed the same hold the same object.
    episode: which of the group's games, from 0.   number: of the turn in its episode, from 1.
    action: what the answer was taken for.   reward: of its step.   penalty: taken from this turn alone.
    seen: names the observation that was shown, without the history: equal ones of a group have one name.
    ending, reason: of an episode's last turn, how it ended and why (rollout/episodes.py); else empty.
    """

    prompt: Prompt
    episode: int
    number: int
    action: str = ""
    reward: float = 0.0
    penalty: float = 0.0
    seen: str = ""
    ending: str = ""
    reason: str = ""


@dataclass
class Group:
    """One prompt and its G responses. `key` names the group everywhere it travels (text-only prompts too).

    Of a game: the first turn's prompt, and the turns of all its episodes, an episode's together and in order.

    Filled on the way through a step: `scores` (one dict of reward parts per response, or per episode,
    `overall` among them), `verdicts` (what the verifier said of each, where the reward has one),
    `advantages_G`, and per-response `old_log_probs` / `ref_log_probs` (float32, shape T of that response).
    weights_G: of each response in its mini-batch's mean, beside what the objective says; None: 1. fresh:
    sampled by the policy that the step starts from, not carried over from an earlier step.
    """

    key: str
    prompt: Prompt
    responses: list[Response]
    scores: list[dict[str, float]] = field(default_factory=list)
    verdicts: list[Verdict | None] = field(default_factory=list)
    advantages_G: torch.Tensor | None = None
    weights_G: torch.Tensor | None = None
    old_log_probs: list[torch.Tensor] = field(default_factory=list)
    ref_log_probs: list[torch.Tensor] = field(default_factory=list)
    fresh: bool = True

    def prompt_of(self, k: int) -> Prompt:
        """What response k answered."""
        turn = self.responses[k].turn
        return self.prompt if turn is None else turn.prompt

    def scored_by(self, k: int) -> int:
        """Which of `scores` and `verdicts` is response k's."""
        turn = self.responses[k].turn
        return k if turn is None else turn.episode

    @property
    def prompts(self) -> list[Prompt]:
        """What its responses answered, each object once."""
        return list(
            {id(prompt): prompt for prompt in map(self.prompt_of, range(len(self.responses)))}.values()
        )


@dataclass(frozen=True)
class Verdict:
    """What the verifier says about one response. `outcome` is a short lower-case word that says why:

    equal        right: the only outcome that is correct
    different    another answer                         hedged       several answers where the gold is one
    no_answer    no box, or an empty one                truncated    the last box is cut off
    unreadable   the answer is nothing we can read      too_long     the box holds more than an answer
    undecided    our rules cannot tell                  invalid      no CountDown expression of its numbers
    timeout      a worker was late and was killed       error        a worker, or we, failed on it

    extracted: the answer taken from the response, None when there is none.
    gold_type: what the gold was read as (integer, decimal, fraction, radical, choice, text, ...).
    seconds: what our own rules took; the time in a worker is not in it.
    """

    correct: bool
    extracted: str | None
    gold_type: str
    outcome: str
    seconds: float
