# SPDX-License-Identifier: Apache-2.0
"""π0 in others' layouts: equal to LeRobot's own ``PI0Policy``, weight by weight and in the end."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pi0_folders import (
    GOLDEN,
    SIZE,
    TEXT,
    TOLERANCE,
    lerobot_folder,
    read_golden,
    use_small_widths,
    write_as_transformers,
)
from torch import Tensor

from vla_policy.nano_pi0 import NanoPi0
from vla_policy.pi0 import layout as pi0_layout
from vla_policy.pi0.inputs import PaligemmaTokenizer, fit_images
from vla_policy.pi0.lora import merge_adapter
from vla_policy.samplers import euler
from vla_policy.types import CheckpointError


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_golden()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_widths(monkeypatch)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> Path:
    return lerobot_folder(tmp_path_factory.mktemp("pi0"), golden[1])


def sample(network: NanoPi0, golden: dict[str, Tensor], steps: int) -> Tensor:
    state = torch.nn.functional.pad(golden["state"], (0, 32 - golden["state"].shape[1]))
    with torch.no_grad():
        prefix = network.encode(
            golden["preprocessed"],
            golden["tokens"],
            golden["token_mask"],
            golden["camera_mask"],
        )

        def velocity(actions: Tensor, t: float, /) -> tuple[Tensor, Tensor]:
            time = torch.full((len(actions), 1), t)
            v, features = network.velocity(prefix, state, actions[:, None], time)
            return v[:, 0], features[:, 0]

        return euler(velocity, golden["noise"], steps)[0]


@pytest.mark.parametrize(("name", "steps"), [("one_step", 1), ("actions", 10)])
def test_actions_are_lerobots(
    folder: Path, golden: tuple[dict[str, Tensor], dict[str, Any]], name: str, steps: int
) -> None:
    network = pi0_layout.load_network(pi0_layout.read_folder(folder))
    assert torch.max(abs(sample(network, golden[0], steps) - golden[0][name])) < TOLERANCE


def test_a_missing_camera_must_be_masked(
    folder: Path, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    network = pi0_layout.load_network(pi0_layout.read_folder(folder))
    unmasked = {**golden[0], "camera_mask": torch.ones_like(golden[0]["camera_mask"])}
    assert torch.max(abs(sample(network, unmasked, 1) - golden[0]["one_step"])) > 10 * TOLERANCE


def test_images_are_fitted_as_lerobot_does(
    golden: tuple[dict[str, Tensor], dict[str, Any]],
) -> None:
    tensors, description = golden
    for index, camera in enumerate(description["cameras"][:2]):
        fitted = fit_images(list(tensors[f"image.{camera}"]), SIZE)
        assert torch.max(abs(fitted - tensors["preprocessed"][:, index])) < 1e-6


def test_instructions_become_lerobots_tokens(
    folder: Path, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    tensors, description = golden
    tokenizer = PaligemmaTokenizer(folder, 5 * TEXT)
    for row, task in enumerate(description["tasks"]):
        ids, valid = tokenizer.encode(task)
        # LeRobot cuts the second one off.
        assert ids[:TEXT].tolist() == tensors["tokens"][row].tolist()
        assert valid[:TEXT].tolist() == tensors["token_mask"][row].tolist()
    with pytest.raises(ValueError, match=f"reads {TEXT} tokens"):
        PaligemmaTokenizer(folder, TEXT).encode(description["tasks"][1])


def test_an_adapter_of_peft_gives_lerobots_actions(
    folder: Path, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    network = pi0_layout.load_network(pi0_layout.read_folder(folder))
    merge_adapter(network, GOLDEN / "pi0_lora")
    adapted = sample(network, golden[0], 10)
    assert torch.max(abs(adapted - golden[0]["actions_lora"])) < TOLERANCE
    assert torch.max(abs(adapted - golden[0]["actions"])) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    tmp_path: Path, folder: Path, change: dict[str, Any], message: str
) -> None:
    shutil.copytree(GOLDEN / "pi0_lora", tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    network = pi0_layout.load_network(pi0_layout.read_folder(folder))
    with pytest.raises(CheckpointError, match=message):
        merge_adapter(network, tmp_path / "lora")


def test_a_folder_as_transformers_writes_it(
    tmp_path: Path, folder: Path, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    network = pi0_layout.load_network(pi0_layout.read_folder(folder))
    write_as_transformers(network, tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    read = pi0_layout.read_folder(tmp_path)
    assert read.shape == dataclasses.replace(network.config, text_tokens=48)
    again = pi0_layout.load_network(read)
    torch.testing.assert_close(sample(again, golden[0], 2), sample(network, golden[0], 2))


def _drop(weights: dict[str, Tensor]) -> None:
    del weights["model.state_proj.bias"]


def _add(weights: dict[str, Tensor]) -> None:
    weights["model.surplus.weight"] = torch.zeros(2)


def _reshape(weights: dict[str, Tensor]) -> None:
    weights["model.state_proj.bias"] = torch.zeros(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"missing weights \['pi0.embed_action_time.state_proj.bias'\]"),
        (_add, r"unexpected weights \['model.surplus.weight'\]"),
        (_reshape, r"model.state_proj.bias is \(5,\), not \(24,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path,
    golden: tuple[dict[str, Tensor], dict[str, Any]],
    change: Any,
    message: str,
) -> None:
    folder = lerobot_folder(tmp_path, golden[1], change=change)
    with pytest.raises(CheckpointError, match=message):
        pi0_layout.load_network(pi0_layout.read_folder(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json is missing"),
        ("{", "is not JSON"),
        ('{"type": "act"}', "is of type 'act'"),
        ('{"type": "pi0"}', "cannot be read"),
        ('{"type": "pi0", "paligemma_variant": "gemma_9b"}', "gemma_9b.*gemma_2b"),
    ],
)
def test_a_folder_that_is_no_pi0_is_refused(
    tmp_path: Path, config: str | None, message: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        pi0_layout.read_folder(tmp_path)


@pytest.mark.parametrize("saved", [False, True])
def test_empty_cameras_are_counted_once(tmp_path: Path, folder: Path, saved: bool) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["empty_cameras"] = 1
    if saved:
        image = {"type": "VISUAL", "shape": [3, 480, 640]}
        config["input_features"]["observation.images.empty_camera_0"] = image
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = pi0_layout.read_folder(tmp_path)
    assert read.cameras == ("base", "wrist", "absent", "empty_camera_0")
    assert read.shape.cameras == 4


def test_shards_outside_of_the_folder_are_not_read(
    tmp_path: Path, golden: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    folder = lerobot_folder(tmp_path / "pi0", golden[1])
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"model.state_proj.bias": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"elsewhere\.safetensors is missing"):
        pi0_layout.load_network(pi0_layout.read_folder(folder))
