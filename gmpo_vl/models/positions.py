"""mRoPE positions of a prompt (Qwen2-VL, section 2.1), without a model instance."""

from __future__ import annotations

import torch


def mrope_positions(
    ids_P: torch.Tensor, image_grid_thw: torch.Tensor, image_token_id: int | None, merge_size: int
) -> torch.Tensor:
    """int64 (3, P): time, height and width position of every token.

    Text counts 1, 2, 3, ... on all rows. An image holds its first position on the time row and counts merged patches
    on the other two; the text after it goes on from the largest position + 1.
    """
    is_image_P = (
        torch.zeros_like(ids_P, dtype=torch.bool) if image_token_id is None else ids_P == image_token_id
    )
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
