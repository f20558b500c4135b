# SPDX-License-Identifier: Apache-2.0
"""Cheap image augmentation on uint8 batches."""

from __future__ import annotations

import torch
from torch import Tensor

# SigLIP's convention: pixel values in [-1, 1].
_SCALE = 2.0 / 255.0


def normalise_images(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(..., size, size, 3) uint8 RGB to (..., 3, size, size) in [-1, 1]."""
    return images.movedim(-1, -3).to(dtype) * _SCALE - 1.0


def augment_images(
    images: Tensor,
    generator: torch.Generator,
    shift_px: int,
    jitter: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Random shift and colour jitter, then ``normalise_images``.

    Args:
        images: (B, cameras, size, size, 3) uint8 RGB.
        generator: CPU source of randomness.
        shift_px: Largest shift in each direction, pixels; the border is repeated.
        jitter: Spread of brightness and contrast; channels vary by a third of it, so that
            colours, which instructions name, stay what they are.
        dtype: Type of the result.

    Returns:
        (B, cameras, 3, size, size).
    """
    batch, cameras, size = images.shape[0], images.shape[1], images.shape[2]
    device = images.device
    images = images.flatten(0, 1)
    count = batch * cameras
    if shift_px > 0:
        shifts = torch.randint(-shift_px, shift_px + 1, (2, count, 1), generator=generator)
        line = torch.arange(size)
        rows = (line + shifts[0]).clamp(0, size - 1).to(device)
        columns = (line + shifts[1]).clamp(0, size - 1).to(device)
        index = torch.arange(count, device=device)[:, None, None]
        images = images[index, rows[:, :, None], columns[:, None, :]]
    values = normalise_images(images, dtype)
    if jitter > 0.0:
        noise = torch.rand((count, 5), generator=generator) * 2.0 - 1.0
        gain = 1.0 + jitter * noise[:, :1] + jitter / 3.0 * noise[:, 1:4]
        offset = jitter * noise[:, 4:]
        values = values * gain.to(device, dtype)[:, :, None, None]
        values = (values + offset.to(device, dtype)[:, :, None, None]).clamp_(-1.0, 1.0)
    return values.reshape(batch, cameras, *values.shape[1:])
