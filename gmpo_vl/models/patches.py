"""uint8 images to the ViT's patches, on the device, equal to the image processor's output to the bit."""

from __future__ import annotations

from functools import lru_cache

import torch

from gmpo_vl.types import ImageSettings


@lru_cache(maxsize=8)
def _normalised_values(settings: ImageSettings) -> torch.Tensor:
    """float32 (3, 256): what the processor makes of every pixel value.

    A pixel has 256 values, so the processor's arithmetic is done once per value, by transformers itself, and looked up:
    equal to the bit on every device.
    """
    import numpy as np
    from transformers.image_transforms import normalize, rescale

    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    scaled = rescale(values, settings.rescale_factor, input_data_format="channels_first")
    normal = normalize(scaled, list(settings.mean), list(settings.std), input_data_format="channels_first")
    return torch.from_numpy(normal.astype(np.float32)).squeeze(1)


def make_patches(image_HWC: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """float32 (patches, channels * temporal * patch * patch), in the ViT's order (2x2 neighbours together)."""
    height, width, channels = image_HWC.shape
    p, m = settings.patch_size, settings.merge_size
    table = _normalised_values(settings).to(image_HWC.device)
    channel = torch.arange(channels, device=image_HWC.device)[:, None, None]
    pixels_CHW = table[channel, image_HWC.permute(2, 0, 1).long()]
    blocks = pixels_CHW.reshape(channels, height // (p * m), m, p, width // (p * m), m, p)
    blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6)  # (gh, gw, m, m, C, p, p)
    blocks = blocks.unsqueeze(5).expand(*blocks.shape[:5], settings.temporal_patch_size, p, p)
    return blocks.reshape((height // p) * (width // p), -1)
