# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_config

from vla_policy.statistics import Statistics
from vla_policy.training.augmentation import augment_images, normalise_images
from vla_policy.training.dataset import ImageStore, TrainingData
from vla_policy.training.optimisation import schedule_factor
from vla_policy.training.trainer import LOG_FILE, STATE_FILE, TrainConfig, Trainer

COUNT = 24


@pytest.fixture(scope="module")
def data() -> TrainingData:
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(COUNT, 24)), rng.normal(size=(COUNT, 16, 10))
    statistics = Statistics.of(states, actions)
    images = rng.integers(0, 256, (COUNT, 2, 96, 96, 3), dtype=np.uint8)
    return TrainingData(
        images=ImageStore([images[:10], images[10:]]),
        state=torch.from_numpy(statistics.normalise_state(states)).float(),
        is_velocity=torch.arange(24) < 7,
        actions=torch.from_numpy(statistics.normalise_actions(actions)).float(),
        actions_valid=torch.ones(COUNT, 16),
        token_table=torch.from_numpy(rng.integers(4, 300, (4, 16))),
        token_valid=torch.ones(4, 16, dtype=torch.bool),
        choices=torch.from_numpy(rng.integers(0, 4, (COUNT, 2))),
        positions=torch.randn(COUNT, 3),
        positions_valid=torch.ones(COUNT, 3),
        patches=torch.from_numpy(rng.integers(-1, 64, (COUNT, 2, 4))),
        position_names=("object",),
        position_scale=0.1,
        statistics=statistics,
        train=np.arange(20),
        validation=np.arange(20, COUNT),
    )


def make(data: TrainingData, folder: Path, **overrides: Any) -> Trainer:
    settings: dict[str, Any] = {
        "samples": 64,
        "batch_size": 4,
        "copies": 2,
        "compile": False,
        "bfloat16": True,
        "threads": 2,
        "muon_lr": 1e-3,
        "validate_every": 1000,
        **overrides,
    }
    return Trainer(TrainConfig(**settings), tiny_config(), data, folder, device="cpu")


@pytest.mark.parametrize("muon_lr", [0.0, 1e-3])
def test_resuming_continues_bit_by_bit(data: TrainingData, tmp_path: Path, muon_lr: float) -> None:
    whole = make(data, tmp_path / "whole", muon_lr=muon_lr)
    for _ in range(6):
        whole.step()
    first = make(data, tmp_path / "parts", muon_lr=muon_lr)
    for _ in range(3):
        first.step()
    first.save()
    second = make(data, tmp_path / "parts", muon_lr=muon_lr)
    assert second.samples == 12
    for _ in range(3):
        second.step()
    for a, b in zip(whole.optimizer.master, second.optimizer.master, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.optimizer.average, second.optimizer.average, strict=True):
        assert torch.equal(a, b)


def test_a_state_of_another_shape_is_refused(data: TrainingData, tmp_path: Path) -> None:
    make(data, tmp_path).save()
    with pytest.raises(ValueError, match="another shape"):
        Trainer(TrainConfig(compile=False), tiny_config(layers=1), data, tmp_path, device="cpu")


def test_training_lowers_the_loss_and_logs(data: TrainingData, tmp_path: Path) -> None:
    trainer = make(data, tmp_path, samples=320, lr=3e-3, muon_lr=5e-3, validate_every=160)
    before = trainer.validate()["validation_flow_loss"]
    first = np.mean([trainer.step()["flow_loss"] for _ in range(5)])
    result = trainer.run()
    assert result["event"] == "finished"
    assert (tmp_path / STATE_FILE).is_file()
    entries = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    losses = [entry["flow_loss"] for entry in entries if "flow_loss" in entry]
    assert losses[-1] < 0.97 * first
    validated = [entry for entry in entries if "validation_position_mm" in entry]
    assert len(validated) == 2
    assert {"samples_per_s", "validation_object_mm", "validation_flow_loss"} <= validated[0].keys()
    assert before > 0.0


def test_a_stop_request_saves_and_says_what_was_kept(data: TrainingData, tmp_path: Path) -> None:
    trainer = make(data, tmp_path)
    trainer._request_stop("SIGTERM")
    result = trainer.run()
    assert result["reason"] == "SIGTERM"
    assert Path(result["kept"]).is_file()


def test_a_policy_goes_on_learning_from_its_weights(data: TrainingData, tmp_path: Path) -> None:
    first = make(data, tmp_path / "first")
    first.step()
    second = make(data, tmp_path / "second", seed=1)
    second.start_from(first.average_weights(), "first")
    assert second.samples == 0
    taken = second.average_weights()
    for name, weight in first.average_weights().items():
        assert torch.equal(taken[name], weight), name


def test_exported_weights_are_those_of_the_policy(data: TrainingData, tmp_path: Path) -> None:
    trainer = make(data, tmp_path)
    assert trainer.average_weights().keys() == trainer.objective.policy.state_dict().keys()


def test_every_epoch_visits_every_sample_once(data: TrainingData) -> None:
    indices = np.concatenate([data.train_indices(p, 4, seed=1) for p in range(0, 40, 4)])
    assert sorted(indices[:20]) == list(range(20))
    assert sorted(indices[20:]) == list(range(20))
    assert indices[:20].tolist() != indices[20:].tolist()
    np.testing.assert_array_equal(data.train_indices(18, 4, seed=1), indices[18:22])


def test_images_of_several_files_share_one_index(data: TrainingData) -> None:
    images = data.read_images(np.array([9, 10, 0]))
    assert images.shape == (3, 2, 96, 96, 3)
    np.testing.assert_array_equal(images[1], data.read_images(np.array([10]))[0])
    assert len(data.images) == COUNT


@pytest.mark.parametrize(
    ("progress", "factor"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.5, 1.0), (0.8, 1.0), (1.0, 0.0)],
)
def test_schedule(progress: float, factor: float) -> None:
    assert schedule_factor(progress, 0.1, 0.2) == pytest.approx(factor)


def test_shift_moves_the_picture_and_repeats_its_border() -> None:
    images = torch.zeros(64, 1, 96, 96, 3, dtype=torch.uint8)
    images[:, :, 48, 48] = 255
    moved = augment_images(images, torch.Generator().manual_seed(0), 3, 0.0)
    bright = (moved[:, 0, 0] > 0).nonzero()
    offsets = bright[:, 1:] - 48
    assert len(bright) == 64
    assert offsets.abs().max() == 3
    assert len(offsets.unique(dim=0)) > 20


def test_without_augmentation_images_are_only_normalised() -> None:
    images = torch.randint(0, 256, (2, 2, 96, 96, 3), dtype=torch.uint8)
    plain = augment_images(images, torch.Generator(), 0, 0.0)
    torch.testing.assert_close(plain, normalise_images(images))
    assert float(normalise_images(torch.tensor([[[0, 127, 255]]], dtype=torch.uint8)).max()) == 1.0


def test_jitter_keeps_colours_apart() -> None:
    image = torch.zeros(256, 1, 8, 8, 3, dtype=torch.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 220, 30, 30
    jittered = augment_images(image, torch.Generator().manual_seed(0), 0, 0.15)
    assert (jittered[:, :, 0] > jittered[:, :, 1] + 0.5).all()
    assert jittered[:, 0, 0, 0, 0].std() > 0.01
