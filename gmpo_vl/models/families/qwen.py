"""Qwen's vision-language models: their inputs are made here, without transformers' processor. It does not
need torchvision, which `Qwen2_5_VLProcessor` wants for video.

Qwen2-VL, 2.5-VL, 3-VL and 3.5 (mRoPE, merged patches, DeepStack where there is one). Each distinct prompt's
pictures go through the ViT once, all in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from gmpo_vl.data.images import ImageError
from gmpo_vl.models.chat import Chat
from gmpo_vl.models.compat import image_features, smart_resize
from gmpo_vl.models.families import DecoderInputs, accepted
from gmpo_vl.types import Example, ImageSettings, Prompt

# The Qwen image processors refuse more extreme pictures.
MAX_ASPECT_RATIO = 200


@dataclass(frozen=True)
class QwenFamily:
    """A `Family`. image: of the model's image processor."""

    image: ImageSettings
    image_token_id: int

    @property
    def patches_per_token(self) -> int:
        return self.image.merge_size**2

    def encode(self, example: Example, chat: Chat, pictures: Iterable[Image.Image]) -> Prompt:
        settings = self.image
        images = [resize_image(picture, settings) for picture in pictures]
        text, ids = chat.encode()
        ids = self._expanded(example, ids, [settings.num_tokens(*image.shape[:2]) for image in images])
        ids_P = torch.tensor(ids, dtype=torch.int64)
        grids = [settings.grid(*image.shape[:2]) for image in images]
        grid_N3 = torch.tensor(grids, dtype=torch.int64).reshape(-1, 3)
        positions = mrope_positions(ids_P, grid_N3, self.image_token_id, settings.merge_size)
        return Prompt(example, text, ids_P, tuple(images), grid_N3, positions)

    def prompt_length(self, example: Example, chat: Chat, sizes: Sequence[tuple[int, int]]) -> int:
        ids = chat.encode()[1]
        self._check_image_tokens(example, ids)
        return len(ids) + sum(self.picture_length(*size) - 1 for size in sizes)

    def picture_length(self, width: int, height: int) -> int:
        return self.image.num_tokens(*model_size_of(width, height, self.image))

    def decoder_inputs(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        features: Sequence[torch.Tensor] | None = None,
    ) -> list[DecoderInputs]:
        if features is None:
            features = prompt_features(model, prompts, self.image)
        return [self._decoder_inputs(model, prompt, of) for prompt, of in zip(prompts, features)]

    def _decoder_inputs(
        self, model: PreTrainedModel, prompt: Prompt, features_DNH: torch.Tensor
    ) -> DecoderInputs:
        ids_P = prompt.ids_P.to(model.device)
        embeddings_PH = model.get_input_embeddings()(ids_P)
        if not prompt.images:
            no_picture_P = torch.zeros_like(ids_P, dtype=torch.bool)
            return DecoderInputs(embeddings_PH, prompt.position_ids_3P, no_picture_P)
        picture_P = ids_P == self.image_token_id
        embeddings_PH = embeddings_PH.masked_scatter(
            picture_P[:, None], features_DNH[0].to(embeddings_PH.dtype)
        )
        deeper = features_DNH[1:] if len(features_DNH) > 1 else None
        return DecoderInputs(embeddings_PH, prompt.position_ids_3P, picture_P, deeper)

    def public_inputs(self, model: PreTrainedModel, prompt: Prompt, fed: int) -> dict[str, Any]:
        settings, device = self.image, model.device
        if not prompt.images:
            return {}
        kinds_P = torch.nn.functional.pad((prompt.ids_P == self.image_token_id).int(), (0, fed))
        patches = torch.cat([make_patches(image.to(device), settings) for image in prompt.images])
        return accepted(
            model,
            {
                "pixel_values": patches.to(model.dtype),
                "image_grid_thw": prompt.image_grid_thw.to(device),
                "mm_token_type_ids": kinds_P[None].to(device),
            },
        )

    def _expanded(self, example: Example, ids: list[int], counts: list[int]) -> list[int]:
        """Every image token as often as its picture has merged patches."""
        self._check_image_tokens(example, ids)
        left = iter(counts)
        return [i for token in ids for i in [token] * (next(left) if token == self.image_token_id else 1)]

    def _check_image_tokens(self, example: Example, ids: list[int]) -> None:
        found = ids.count(self.image_token_id)
        if found != len(example.images):
            raise ValueError(
                f"{example.id}: {found} image tokens for {len(example.images)} pictures; "
                "does the chat template write one for each, and none of its own?"
            )


def qwen_family(image_processor: Any, image_token_id: int) -> QwenFamily:
    """By a model's image processor and its configuration's id."""
    size = dict(image_processor.size)
    settings = ImageSettings(
        patch_size=image_processor.patch_size,
        temporal_patch_size=image_processor.temporal_patch_size,
        merge_size=image_processor.merge_size,
        min_pixels=size.get("shortest_edge") or image_processor.min_pixels,
        max_pixels=size.get("longest_edge") or image_processor.max_pixels,
        rescale_factor=image_processor.rescale_factor,
        mean=tuple(image_processor.image_mean),
        std=tuple(image_processor.image_std),
    )
    return QwenFamily(settings, image_token_id)


def prompt_features(
    model: PreTrainedModel, prompts: Sequence[Prompt], image: ImageSettings
) -> list[torch.Tensor]:
    """ViT features (1 + D, image tokens, hidden) of each prompt, all pictures in one call; 0 tokens for text.

    The first features replace the image tokens' embeddings. The other D (DeepStack, Qwen3-VL) are added to
    the hidden states after the first D decoder layers.
    """
    device = model.device
    pictures = [x.to(device) for p in prompts for x in p.images]
    if not pictures:
        return [torch.empty(1, 0, 0, device=device) for _ in prompts]
    counts = [int(p.image_grid_thw.prod(dim=1).sum()) // image.merge_size**2 for p in prompts]
    patches = torch.cat([make_patches(x, image) for x in pictures])
    grid_N3 = torch.cat([p.image_grid_thw for p in prompts])
    features_DNH = image_features(model, patches, grid_N3.to(device))
    return list(features_DNH.split(counts, dim=1))


def visit(model: PreTrainedModel, image: ImageSettings) -> torch.Tensor:
    """0 with gradients of 0, after a run of the ViT on the smallest picture."""
    grid_13 = torch.tensor([image.grid(image.factor, image.factor)], device=model.device)
    grey = torch.zeros((image.factor, image.factor, 3), dtype=torch.uint8, device=model.device)
    return image_features(model, make_patches(grey, image), grid_13)[:, :0].sum()


def model_size_of(width: int, height: int, settings: ImageSettings) -> tuple[int, int]:
    """(height, width) in pixels that the model sees of a picture. ImageError for one too long or too flat."""
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(
            f"a picture of {width} x {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the "
            "other, which Qwen's models refuse; crop or pad it"
        )
    return smart_resize(height, width, settings.factor, settings.min_pixels, settings.max_pixels)


def resize_image(image: Image.Image, settings: ImageSettings) -> torch.Tensor:
    """uint8 (height, width, 3): whole merged patches within the processor's limits, bicubic as its own."""
    height, width = model_size_of(image.width, image.height, settings)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))


def mrope_positions(
    ids_P: torch.Tensor, image_grid_thw: torch.Tensor, image_token_id: int, merge_size: int
) -> torch.Tensor:
    """int64 (3, P): time, height and width position of every token (mRoPE: Qwen2-VL, section 2.1).

    Text counts 0, 1, 2, ... on all rows. An image holds its first position on the time row and counts merged
    patches on the other two; the text after it continues at the largest position + 1.
    """
    is_image_P = ids_P == image_token_id
    rows: list[torch.Tensor] = []
    token, position = 0, 0
    for _, height, width in image_grid_thw.tolist():
        first = token + int(is_image_P[token:].int().argmax())
        rows.append(torch.arange(position, position + first - token).expand(3, -1))
        position += first - token
        height, width = height // merge_size, width // merge_size
        h, w = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        rows.append(torch.stack([torch.zeros_like(h), h, w]).reshape(3, -1) + position)
        position += max(height, width)
        token = first + height * width
    rows.append(torch.arange(position, position + len(ids_P) - token).expand(3, -1))
    return torch.cat(rows, dim=1)


@lru_cache(maxsize=8)
def _normalised_values(settings: ImageSettings) -> torch.Tensor:
    """float32 (3, 256): the processor's result for every pixel value.

    transformers itself computes the 256 values once; pixels look them up, equal to the bit on every device.
    """
    from transformers.image_transforms import normalize, rescale

    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    scaled = rescale(values, settings.rescale_factor, input_data_format="channels_first")
    normal = normalize(scaled, list(settings.mean), list(settings.std), input_data_format="channels_first")
    return torch.from_numpy(normal.astype(np.float32)).squeeze(1)


def make_patches(image_HWC: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """float32 (patches, channels * temporal * patch * patch), in the ViT's order (2x2 neighbours together).

    On the picture's device, and equal to the image processor's output to the bit.
    """
    height, width, channels = image_HWC.shape
    p, m = settings.patch_size, settings.merge_size
    table = _normalised_values(settings).to(image_HWC.device)
    channel = torch.arange(channels, device=image_HWC.device)[:, None, None]
    pixels_CHW = table[channel, image_HWC.permute(2, 0, 1).long()]
    blocks = pixels_CHW.reshape(channels, height // (p * m), m, p, width // (p * m), m, p)
    blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6)  # (gh, gw, m, m, C, p, p)
    blocks = blocks.unsqueeze(5).expand(*blocks.shape[:5], settings.temporal_patch_size, p, p)
    return blocks.reshape((height // p) * (width // p), -1)
