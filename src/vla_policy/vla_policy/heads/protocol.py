# SPDX-License-Identifier: Apache-2.0
"""The seam between a network and what it is asked for."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..nano_pi0 import NanoPi0, Prefix
from ..samplers import Guidance


class Head(Protocol):
    """Makes a chunk.

    Attributes:
        has_flow: Whether there is a flow that guidance could bend.
    """

    has_flow: bool

    def sample(
        self,
        network: NanoPi0,
        prefix: Prefix,
        state: Tensor,
        noise: Tensor,
        guidance: Guidance | None,
    ) -> tuple[Tensor, Tensor]:
        """A chunk and the features that it is projected from.

        Args:
            network: Whose prefix it is.
            prefix: Encoded images and instruction of B conditions.
            state: (B, S) normalised.
            noise: (B, H, A) standard normal.
            guidance: Changes the flow; None for none.

        Returns:
            Normalised actions (B, H, A) and features (B, passes, H, W).

        Raises:
            PolicyError: If there is a guidance and no flow.
        """
        ...
