# SPDX-License-Identifier: Apache-2.0
"""A nano-scale π0: transformers' ``PI0ForConditionalGeneration`` with small towers.

π0 (Black et al., 2024) is a vision-language model whose keys and values condition a smaller
"action expert" that predicts the velocity of a flow from noise (t = 1) to an action chunk
(t = 0). ``NanoPi0`` keeps the modules of transformers and adds two things around them:

* ``encode`` runs vision tower and language model once; ``velocity`` runs the expert only.
* ``velocity`` takes K noised chunks per condition. They sit side by side in one expert sequence
  behind a mask that hides them from each other, so the encoded prefix is shared, not copied
  (after Mini-Diffuser: many noise samples per encoded condition).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.cache_utils import DynamicCache
from transformers.initialization import no_init_weights
from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb

_MAX_COPIES = 40
_MASKED = -1.0e9  # additive attention bias; finite, so a fully masked row cannot become NaN


@dataclass(frozen=True)
class NanoPi0Config:
    """Shape of the network.

    Attributes:
        vocab_size: Number of entries of the tokenizer, image token included.
        image_token_id: Id of the placeholder that stands for an image patch.
        state_dim: Length of the encoded robot state.
        action_dim: Length of one action.
        horizon: Actions in a chunk.
        cameras: Number of cameras.
        image_size: Height and width of an image in pixels.
        patch_size: Height and width of a patch in pixels.
        text_tokens: Fixed length of the padded instruction.
        vision_width: Width of the SigLIP tower.
        vision_layers: Layers of the SigLIP tower.
        vision_mlp: Hidden width of its MLPs.
        vision_heads: Attention heads of the tower.
        language_width: Width of the Gemma language model.
        language_mlp: Hidden width of its MLPs.
        expert_width: Width of the action expert; also the width of its features.
        expert_mlp: Hidden width of its MLPs.
        layers: Layers of language model and expert (π0 pairs them, so they are equal).
        heads: Attention heads of language model and expert.
        kv_heads: Key and value heads of both.
        head_dim: Width of one head.
        flow_steps: Euler steps at inference.
    """

    vocab_size: int
    image_token_id: int
    state_dim: int
    action_dim: int
    horizon: int = 16
    cameras: int = 2
    image_size: int = 96
    patch_size: int = 12
    text_tokens: int = 16
    vision_width: int = 192
    vision_layers: int = 3
    vision_mlp: int = 512
    vision_heads: int = 3
    language_width: int = 192
    language_mlp: int = 384
    expert_width: int = 320
    expert_mlp: int = 704
    layers: int = 4
    heads: int = 3
    kv_heads: int = 3
    head_dim: int = 64
    flow_steps: int = 5

    @property
    def image_tokens(self) -> int:
        """Number of patch tokens of all cameras."""
        return self.cameras * (self.image_size // self.patch_size) ** 2

    def to_dict(self) -> dict[str, int]:
        """Plain dictionary for JSON."""
        return asdict(self)

    def hugging_face(self) -> PI0Config:
        """The equivalent configuration of transformers."""
        gemma: dict[str, Any] = {
            "model_type": "gemma",
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
        }
        vlm = {
            "model_type": "paligemma",
            "text_config": {
                **gemma,
                "hidden_size": self.language_width,
                "intermediate_size": self.language_mlp,
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": self.vision_width,
                "intermediate_size": self.vision_mlp,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": self.vision_heads,
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "projection_dim": self.language_width,
                "vision_use_head": False,
            },
            "projection_dim": self.language_width,
            "image_token_id": self.image_token_id,
        }
        expert = {
            **gemma,
            "hidden_size": self.expert_width,
            "intermediate_size": self.expert_mlp,
        }
        return PI0Config(
            vlm_config=vlm,
            dit_config=expert,
            chunk_size=self.horizon,
            max_state_dim=self.state_dim,
            max_action_dim=self.action_dim,
            num_inference_steps=self.flow_steps,
        )


@dataclass(frozen=True)
class Prefix:
    """What the action expert reads of images and instruction.

    Attributes:
        keys: Per layer (B, kv_heads, P, head_dim).
        values: Per layer (B, kv_heads, P, head_dim).
        valid: (B, P) true where the token is not padding.
        patches: (B, image tokens, language_width) projected patches; for auxiliary losses.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    valid: Tensor
    patches: Tensor

    def row(self, index: int) -> Prefix:
        """The prefix of one of its conditions, as a batch of one."""
        one = slice(index, index + 1)
        return Prefix(
            keys=tuple(keys[one] for keys in self.keys),
            values=tuple(values[one] for values in self.values),
            valid=self.valid[one],
            patches=self.patches[one],
        )

    @staticmethod
    def stack(prefixes: Sequence[Prefix]) -> Prefix:
        """Several prefixes as one batch."""
        if len(prefixes) == 1:
            return prefixes[0]
        return Prefix(
            keys=tuple(torch.cat(keys) for keys in zip(*(p.keys for p in prefixes), strict=True)),
            values=tuple(torch.cat(v) for v in zip(*(p.values for p in prefixes), strict=True)),
            valid=torch.cat([p.valid for p in prefixes]),
            patches=torch.cat([p.patches for p in prefixes]),
        )

    def cache(self) -> DynamicCache:
        """A fresh transformers cache over the same tensors (the expert appends to a copy)."""
        return DynamicCache(list(zip(self.keys, self.values, strict=True)))


@dataclass(frozen=True)
class ExpertOutput:
    """What the action expert computes.

    Attributes:
        velocity: (B, K, horizon, action_dim).
        features: (B, K, horizon, expert_width) hidden states that it is projected from,
            "pre-velocity".
        state_hidden: (B, expert_width) last hidden state of the state token.
        state_inputs: Per layer (B, 1, expert_width) what the state token enters it with.
        state_rotary: Cosine and sine of the state token's position.
    """

    velocity: Tensor
    features: Tensor
    state_hidden: Tensor
    state_inputs: tuple[Tensor, ...]
    state_rotary: tuple[Tensor, Tensor]


class NanoPi0(nn.Module):
    """π0 at nano scale.

    Args:
        config: Shape of the network.
        initialise: Whether weights are drawn; without, they must be loaded.
        dtype: Of the weights.
    """

    def __init__(
        self,
        config: NanoPi0Config,
        *,
        initialise: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        with nullcontext() if initialise else no_init_weights():
            self.pi0 = PI0ForConditionalGeneration._from_config(config.hugging_face(), dtype=dtype)
        # The default embedding of patch positions has a thirtieth of the patches' own spread, and a
        # network that cannot tell where a patch is learns everything else first.
        embeddings = self.pi0.model.vlm.vision_tower.embeddings
        side = config.image_size // config.patch_size
        with torch.no_grad():
            embeddings.position_embedding.weight.copy_(sincos_2d(side, config.vision_width))
        # Positions in a suffix: the state token, then every copy counts from one. A buffer with
        # room behind its end, because torch 2.13's compiled CPU kernels read whole vectors past
        # the end of an int64 tensor.
        step = torch.arange(config.horizon) + 1
        offsets = torch.cat([step.new_zeros(1), step.repeat(_MAX_COPIES)])
        self.suffix_offsets: Tensor
        self.register_buffer("suffix_offsets", offsets, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype: torch.dtype = self.pi0.dtype
        return dtype

    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def encode(
        self,
        images: Tensor,
        token_ids: Tensor,
        token_valid: Tensor,
        camera_valid: Tensor | None = None,
    ) -> Prefix:
        """Runs the vision tower and the language model.

        Args:
            images: (B, cameras, 3, size, size) in [-1, 1].
            token_ids: (B, text_tokens) int64 ids of the padded instruction.
            token_valid: (B, text_tokens) bool, true for real tokens.
            camera_valid: (B, cameras) bool, false for a camera that is missing; None = all there.

        Returns:
            The prefix for ``velocity``.
        """
        batch = images.shape[0]
        vlm = self.pi0.model.vlm
        patches = vlm.vision_tower(images.flatten(0, 1)).last_hidden_state
        patches = vlm.multi_modal_projector(patches)
        patches = patches.reshape(batch, self.config.image_tokens, -1)
        text = vlm.get_input_embeddings()(token_ids).to(patches.dtype)
        embeddings = torch.cat([patches, text], dim=1)
        if camera_valid is None:
            camera_valid = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
        per_camera = self.config.image_tokens // self.config.cameras
        image_valid = camera_valid.repeat_interleave(per_camera, dim=1)
        valid = torch.cat([image_valid, token_valid], dim=1)
        length = valid.shape[1]
        mask = _bias(valid[:, None, None, :].expand(batch, 1, length, length), embeddings.dtype)
        positions = (valid.long().cumsum(-1) - 1).clamp_min(0)
        cache = DynamicCache()
        vlm.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return Prefix(
            keys=tuple(layer.keys for layer in cache.layers),
            values=tuple(layer.values for layer in cache.layers),
            valid=valid,
            patches=patches,
        )

    def velocity(
        self, prefix: Prefix, state: Tensor, actions: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocity (B, K, horizon, action_dim) and features; see ``expert``."""
        output = self.expert(prefix, state, actions, time)
        return output.velocity, output.features

    def expert(self, prefix: Prefix, state: Tensor, actions: Tensor, time: Tensor) -> ExpertOutput:
        """Runs the action expert at K noised chunks per condition.

        Args:
            prefix: Encoded images and instruction of B conditions.
            state: (B, state_dim) normalised state.
            actions: (B, K, horizon, action_dim) noised chunks.
            time: (B, K) flow time, 1 = noise, 0 = actions.

        Raises:
            ValueError: If K is too large.
        """
        batch, copies, horizon, _ = actions.shape
        if copies > _MAX_COPIES - 8:
            raise ValueError(f"{copies} copies per condition; valid: 1 to {_MAX_COPIES - 8}")
        embed = self.pi0.embed_action_time
        repeated = state[:, None].expand(batch, copies, state.shape[-1]).flatten(0, 1)
        tokens = embed(repeated, actions.flatten(0, 1), time.flatten())
        width = tokens.shape[-1]
        tokens = tokens.reshape(batch, copies, horizon + 1, width)
        # The state token is the same for every copy: it does not depend on noise or time.
        hidden = torch.cat(
            [tokens[:, 0, :1], tokens[:, :, 1:].reshape(batch, copies * horizon, width)], dim=1
        )
        mask = self._suffix_mask(prefix.valid, copies, hidden.dtype)
        offsets = self.suffix_offsets[: 1 + copies * horizon]
        positions = prefix.valid.long().sum(-1, keepdim=True) + offsets[None, :]
        dit = self.pi0.model.dit
        rotary = dit.rotary_emb(hidden, position_ids=positions)
        cache = prefix.cache()
        state_inputs = []
        for layer in dit.layers:
            state_inputs.append(hidden[:, :1])
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                position_embeddings=rotary,
            )
        hidden = dit.norm(hidden)
        features = hidden[:, 1:].reshape(batch, copies, horizon, width)
        return ExpertOutput(
            velocity=self.pi0.action_out_proj(features),
            features=features,
            state_hidden=hidden[:, 0],
            state_inputs=tuple(state_inputs),
            state_rotary=(rotary[0][:, :1], rotary[1][:, :1]),
        )

    def state_attention(self, prefix: Prefix, output: ExpertOutput, layer: int) -> Tensor:
        """Logits (B, heads, P) of the state token's attention to the prefix in one layer."""
        block = self.pi0.model.dit.layers[layer]
        attention = block.self_attn
        query = attention.q_proj(block.input_layernorm(output.state_inputs[layer]))
        query = query.unflatten(-1, (self.config.heads, self.config.head_dim)).transpose(1, 2)
        query, _ = apply_rotary_pos_emb(query, query, *output.state_rotary)
        keys = prefix.keys[layer].repeat_interleave(
            self.config.heads // self.config.kv_heads, dim=1
        )
        logits: Tensor = (query @ keys.transpose(2, 3))[:, :, 0] * attention.scaling
        return logits + _bias(prefix.valid[:, None], logits.dtype)

    def _suffix_mask(self, prefix_valid: Tensor, copies: int, dtype: torch.dtype) -> Tensor:
        """Additive mask (B, 1, 1 + K·H, P + 1 + K·H): state → actions, no copy sees another."""
        horizon = self.config.horizon
        batch, prefix_length = prefix_valid.shape
        device = prefix_valid.device
        owner = torch.arange(copies, device=device).repeat_interleave(horizon) + 1
        owner = torch.cat([owner.new_zeros(1), owner])
        visible = (owner[None, :] == 0) | (owner[None, :] == owner[:, None])
        length = visible.shape[0]
        allowed = torch.cat(
            [
                prefix_valid[:, None, :].expand(batch, length, prefix_length),
                visible[None].expand(batch, length, length),
            ],
            dim=-1,
        )
        return _bias(allowed[:, None], dtype)


def sincos_2d(side: int, width: int) -> Tensor:
    """Embedding (side², width) of a grid's positions, row by row, zero mean, spread about one.

    Sines and cosines of column and line (after Beyer et al., "Better plain ViT baselines", 2022)
    with periods from four patches up to a hundred times as long.

    Raises:
        ValueError: If ``width`` is not a multiple of four.
    """
    if width % 4:
        raise ValueError(f"the vision width {width} must be a multiple of 4")
    quarter = width // 4
    frequency = 0.5 * math.pi / 100.0 ** (torch.arange(quarter) / quarter)
    angle = torch.arange(side)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    columns = axis[None].expand(side, side, -1)
    lines = axis[:, None].expand(side, side, -1)
    grid = 2.0 * torch.cat([columns, lines], dim=-1).reshape(side * side, width)
    return grid - grid.mean(0)


def _bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention bias from a boolean mask (true = may attend)."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, _MASKED
    )
