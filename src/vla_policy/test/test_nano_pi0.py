# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla_policy.nano_pi0 import NanoPi0, NanoPi0Config, sincos_2d
from vla_policy.training.objective import Batch, Objective, split_batch

BATCH, COPIES = 2, 4


@pytest.fixture
def inputs(network: NanoPi0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    valid = torch.ones(BATCH, 16, dtype=torch.bool)
    valid[0, 6:] = False
    return {
        "images": torch.rand(BATCH, 2, 3, 96, 96, generator=generator) * 2 - 1,
        "token_ids": torch.randint(4, 300, (BATCH, 16), generator=generator),
        "token_valid": valid,
        "state": torch.randn(BATCH, 24, generator=generator),
        "actions": torch.randn(BATCH, COPIES, 16, 10, generator=generator),
        "time": torch.rand(BATCH, COPIES, generator=generator),
    }


def velocity(network: NanoPi0, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    prefix = network.encode(inputs["images"], inputs["token_ids"], inputs["token_valid"])
    with torch.no_grad():
        return network.velocity(prefix, inputs["state"], inputs["actions"], inputs["time"])


def test_default_size_is_about_6_5_million_parameters() -> None:
    network = NanoPi0(NanoPi0Config(320, 3, 24, 10))
    assert 6.0e6 < network.parameter_count() < 7.0e6


def test_patches_know_where_they_are() -> None:
    grid = sincos_2d(8, 192)
    assert grid.shape == (64, 192)
    assert 0.7 < float(grid.std()) < 1.5
    line, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    places = torch.stack([column.flatten(), line.flatten()], dim=1)
    features = torch.cat([grid, torch.ones(64, 1)], 1).double()
    # The features depend on each other: only a solver by singular values finds their rank.
    again = features @ torch.linalg.lstsq(features, places.double(), driver="gelsd").solution
    assert float((again - places).abs().max()) < 0.1
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d(8, 30)


def test_velocity_equals_transformers_pi0(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    ours, _ = velocity(network, inputs)
    image_ids = torch.full((BATCH, network.config.image_tokens), network.config.image_token_id)
    ids = torch.cat([image_ids, inputs["token_ids"]], dim=1)
    mask = torch.cat([torch.ones_like(image_ids), inputs["token_valid"].long()], dim=1)
    with torch.no_grad():
        for copy in range(COPIES):
            theirs = network.pi0(
                state=inputs["state"],
                noise=inputs["actions"][:, copy],
                timestep=inputs["time"][:, copy],
                input_ids=ids,
                pixel_values=inputs["images"],
                pixel_attention_mask=torch.ones(BATCH, 2, dtype=torch.bool),
                attention_mask=mask,
            ).logits
            torch.testing.assert_close(ours[:, copy], theirs, atol=2e-5, rtol=1e-4)


def test_copies_do_not_see_each_other(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    together, _ = velocity(network, inputs)
    changed = {**inputs, "actions": inputs["actions"].clone()}
    changed["actions"][:, 1:] += 1.0
    apart, _ = velocity(network, changed)
    torch.testing.assert_close(apart[:, 0], together[:, 0])
    assert not torch.allclose(apart[:, 1], together[:, 1], atol=1e-3)


def test_shapes_of_velocity_and_features(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    v, features = velocity(network, inputs)
    assert v.shape == (BATCH, COPIES, 16, 10)
    assert features.shape == (BATCH, COPIES, 16, network.config.expert_width)
    torch.testing.assert_close(network.pi0.action_out_proj(features), v)


def test_state_attention_is_that_of_the_expert(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    seen: dict[int, Tensor] = {}
    layers = network.pi0.model.dit.layers
    network.pi0.set_attn_implementation("eager")
    hooks = [
        layer.self_attn.register_forward_hook(
            lambda _module, _inputs, output, number=number: seen.update({number: output[1]})
        )
        for number, layer in enumerate(layers)
    ]
    with torch.no_grad():
        prefix = network.encode(inputs["images"], inputs["token_ids"], inputs["token_valid"])
        output = network.expert(prefix, inputs["state"], inputs["actions"], inputs["time"])
        for number in range(len(layers)):
            length = prefix.valid.shape[1]
            theirs = seen[number][:, :, 0, :length]
            ours = network.state_attention(prefix, output, number).softmax(-1)
            share = theirs.sum(-1, keepdim=True)
            torch.testing.assert_close(ours * share, theirs, atol=1e-5, rtol=1e-4)
    for hook in hooks:
        hook.remove()
    network.pi0.set_attn_implementation("sdpa")


def test_padding_is_not_read(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    before, _ = velocity(network, inputs)
    changed = {**inputs, "token_ids": inputs["token_ids"].clone()}
    changed["token_ids"][0, 6:] = 5
    after, _ = velocity(network, changed)
    torch.testing.assert_close(after, before)
    changed["token_ids"][0, 2] = 5
    assert not torch.allclose(velocity(network, changed)[0][0], before[0], atol=1e-5)


@pytest.mark.parametrize("camera", [0, 1])
def test_every_camera_is_read(network: NanoPi0, inputs: dict[str, Tensor], camera: int) -> None:
    before, _ = velocity(network, inputs)
    changed = {**inputs, "images": inputs["images"].clone()}
    changed["images"][:, camera, :, 30:60, 30:60] = 1.0
    assert not torch.allclose(velocity(network, changed)[0], before, atol=1e-5)


def make_batch(inputs: dict[str, Tensor]) -> Batch:
    generator = torch.Generator().manual_seed(8)
    return Batch(
        images=inputs["images"],
        token_ids=inputs["token_ids"],
        token_valid=inputs["token_valid"],
        state=inputs["state"],
        actions=torch.randn(BATCH, 16, 10, generator=generator),
        actions_valid=torch.ones(BATCH, 16),
        noise=inputs["actions"],
        time=inputs["time"],
        positions=torch.randn(BATCH, 9, generator=generator),
        patches=torch.randint(-1, 64, (BATCH, 2, 6), generator=generator),
        positions_valid=torch.tensor([[1.0] * 9, [1.0] * 6 + [0.0] * 3]),
    )


def test_loss_of_k_copies_is_the_mean_of_k_single_losses(
    network: NanoPi0, inputs: dict[str, Tensor]
) -> None:
    objective = Objective(network, 9, 6, 0.5, 0.0)
    batch = make_batch(inputs)
    with torch.no_grad():
        total, flow, position = objective(batch)
        singles = []
        for copy in range(COPIES):
            values = {**vars(batch)}
            values["noise"] = batch.noise[:, copy : copy + 1]
            values["time"] = batch.time[:, copy : copy + 1]
            singles.append(objective(Batch(**values))[1])
    torch.testing.assert_close(flow, torch.stack(singles).mean())
    torch.testing.assert_close(total, flow + 0.5 * position)


def test_unknown_positions_do_not_count(network: NanoPi0, inputs: dict[str, Tensor]) -> None:
    objective = Objective(network, 9, 6, 0.5, 0.1)
    batch = make_batch(inputs)
    changed = Batch(**{**vars(batch), "positions": batch.positions.clone()})
    changed.positions[1, 6:] += 100.0
    with torch.no_grad():
        torch.testing.assert_close(objective(changed)[2], objective(batch)[2])
        changed.positions[1, 0] += 100.0
        assert objective(changed)[2] > objective(batch)[2] + 1.0


def test_steps_that_do_not_count_are_no_part_of_the_loss(
    network: NanoPi0, inputs: dict[str, Tensor]
) -> None:
    objective = Objective(network, 9, 6, 0.5, 0.1)
    batch = make_batch(inputs)
    valid = torch.ones(BATCH, 16)
    valid[1, 10:] = 0.0

    def flow(mask: Tensor) -> Tensor:
        with torch.no_grad():
            return objective(Batch(**{**vars(batch), "actions_valid": mask}))[1]

    # The mean over all steps is that over the two halves, by their sizes.
    parts = flow(valid) * valid.sum() + flow(1.0 - valid) * (1.0 - valid).sum()
    torch.testing.assert_close(flow(torch.ones(BATCH, 16)) * 16 * BATCH, parts)
    assert abs(flow(valid) - flow(1.0 - valid)) > 1e-4
    assert flow(0.0 * valid) == 0.0


def test_parts_of_a_batch_cover_it(inputs: dict[str, Tensor]) -> None:
    batch = make_batch(inputs)
    parts = list(split_batch(batch, 2))
    torch.testing.assert_close(torch.cat([part.noise for part in parts]), batch.noise)
    torch.testing.assert_close(torch.cat([part.images for part in parts]), batch.images)
