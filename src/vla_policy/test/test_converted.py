# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes as training data: what a chunk holds, what counts, and that it is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import JOINTS, tiny_config

from vla_data import GripperContract, JointsContract, ObservationContract
from vla_data.lerobot import layout
from vla_data.lerobot.assembly import assemble
from vla_data.lerobot.dataset import Dataset, DatasetError, Episode
from vla_data.lerobot.statistics import picture_statistics
from vla_data.lerobot.video import FilmWriter
from vla_policy.tokenizer import InstructionTokenizer
from vla_policy.training.converted import (
    ChunkSettings,
    chunk_samples,
    joined,
    load_converted,
    repeated,
)
from vla_policy.training.trainer import TrainConfig, Trainer

RATE, ROWS = 20, 40
CAMERAS = ("scene", "wrist")
POLICY, OPERATOR = 1, 3
SETTINGS = ChunkSettings()


def poses(times: Any) -> np.ndarray:
    """References (rows, 8) of a tool that moves 0.1 m/s along x and turns about z."""
    times = np.asarray(times, dtype=np.float64)
    half = 0.2 * times
    zero = np.zeros_like(times)
    turn = (zero, zero, np.sin(half), np.cos(half))
    return np.stack([0.4 + 0.1 * times, zero, zero + 0.3, *turn, zero + 0.04], axis=-1)


def episode(
    source: np.ndarray | None = None, outcome: str = "success", rate: int = RATE
) -> Episode:
    """One whose action of row k is the reference at (k + 1) / rate."""
    source = np.full(ROWS, POLICY) if source is None else source
    return Episode(
        index=0,
        state=np.zeros((ROWS, 22)),
        action=poses((np.arange(ROWS) + 1) / rate),
        intervention=source == OPERATOR,
        source=source,
        instructions=("pick up the red block",) * ROWS,
        about={"outcome": outcome, "task": "pick", "seed": 7},
    )


@pytest.mark.parametrize("rate", [20, 30, 40])
def test_a_step_is_the_reference_at_its_time(rate: int) -> None:
    samples = chunk_samples(episode(rate=rate), rate, SETTINGS, "all")
    starts = samples.rows[:, None] / rate
    expected = poses(starts + np.arange(16) * SETTINGS.step_dt)
    counted = samples.valid
    np.testing.assert_allclose(samples.actions[counted], expected[counted], atol=1e-5)
    assert counted.sum() > 200


def test_steps_beyond_the_end_do_not_count() -> None:
    samples = chunk_samples(episode(), RATE, SETTINGS, "all")
    # Row k: step 0 lies one row before its own action, so that row 0 lacks it.
    assert not samples.valid[0, 0]
    assert samples.valid[0, 1:].all()
    assert samples.valid[1].all()
    assert samples.rows[-1] == ROWS - 1
    assert samples.valid[-1].tolist() == [True, True] + [False] * 14


def test_corrections_of_any_episode_and_what_came_after_them_in_successful_ones() -> None:
    source = np.full(ROWS, POLICY)
    source[10:20] = OPERATOR
    source[25:30] = 0
    whole = chunk_samples(episode(source), RATE, SETTINGS, "all")
    # What the policy did before somebody took over is not imitated; what it did afterwards is.
    assert set(whole.rows) == set(range(10, ROWS)) - set(range(25, 30))
    alone = chunk_samples(episode(), RATE, SETTINGS, "all")
    assert set(alone.rows) == set(range(ROWS))
    place = int(np.flatnonzero(whole.rows == 22)[0])
    # From row 22: the actions of rows 21 to 36, of which nobody commanded those of 25 to 29.
    assert whole.valid[place].tolist() == [True] * 4 + [False] * 5 + [True] * 7
    failed = chunk_samples(episode(source, "failure"), RATE, SETTINGS, "all")
    assert set(failed.rows) == set(range(10, 20))
    only = chunk_samples(episode(source), RATE, SETTINGS, "only")
    assert set(only.rows) == set(range(10, 20))
    assert only.valid[0].tolist() == [False] + [True] * 10 + [False] * 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes; in the third an operator takes over."""
    folder = tmp_path_factory.mktemp("converted")
    contract = ObservationContract(
        name="sim_franka",
        base_frame="panda_link0",
        tool_frame="panda_hand_tcp",
        cameras={},
        joints=JointsContract("joint_states", JOINTS, 0.1),
        gripper=GripperContract("joint_states", ("left",), 0.1),
    )
    shape = layout.Shape(RATE, JOINTS, dict.fromkeys(CAMERAS, (96, 96)), None, "h264")
    staged = [_stage(folder / f"episode_{number}", number) for number in range(4)]
    assemble(staged, folder / "set", shape, contract)
    return folder / "set"


def _stage(folder: Path, number: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(number)
    times = np.arange(ROWS) / RATE
    state = np.zeros((ROWS, 22), np.float32)
    state[:, :7] = 0.1 * times[:, None]
    state[:, 14:] = np.roll(poses(times), 1, axis=1)  # the opening, then the pose
    source = np.full(ROWS, OPERATOR if number == 2 else POLICY)
    np.savez(
        folder / "columns.npz",
        **{
            layout.STATE: state,
            layout.ACTION: poses(times + 1 / RATE).astype(np.float32),
            layout.INTERVENTION: source == OPERATOR,
            layout.SOURCE: source,
            layout.STAMP: (times * 1e9).astype(np.int64),
            "instruction": np.zeros(ROWS, np.int64),
        },
    )
    shades = rng.integers(60, 200, ROWS)
    for camera in CAMERAS:
        with FilmWriter(folder / f"{camera}.mp4", "h264", RATE, (96, 96)) as film:
            for shade in shades:
                film.add(np.full((96, 96, 3), shade, np.uint8))
    taken = picture_statistics([np.full((8, 8, 3), 100, np.uint8)])
    about = {
        "bag": folder.name,
        "length": ROWS,
        "instructions": ["pick up the red block"],
        "duration_s": ROWS / RATE,
        "repeated_rows": 0,
        "camera_rates_hz": dict.fromkeys(CAMERAS, float(RATE)),
        "outcome": {"outcome": "success", "source": "simulator", "message": ""},
        "episode": {"source": "sim_franka", "task": "pick", "seed": 100 + number, "policy_id": ""},
        "pictures": {c: {k: v.tolist() for k, v in taken.items()} for c in CAMERAS},
    }
    (folder / "episode.json").write_text(json.dumps(about))
    return folder


def test_a_dataset_is_learnt_from(
    dataset: Path, tokenizer: InstructionTokenizer, tmp_path: Path
) -> None:
    made, corrections = load_converted(
        [dataset], tmp_path / "cache", SETTINGS, "all", tokenizer, rate=10.0
    )
    data = made.data
    assert (made.robot, made.joint_names) == ("panda", JOINTS)
    assert made.manifest["demonstrations"][0]["seeds"] == [100, 101, 102, 103]
    assert len(data.state) == 4 * ROWS // 2
    assert len(data.validation) == ROWS // 2
    assert corrections.sum() == ROWS // 2
    assert 0.0 < float(data.actions_valid.mean()) < 1.0
    # Pictures are those of their rows: an episode's shades are drawn from its number.
    shades = np.random.default_rng(1).integers(60, 200, ROWS)[::2]
    seen = data.read_images(np.arange(ROWS // 2, ROWS))[:, 0, 40, 40, 0]
    assert np.abs(seen.astype(int) - shades).max() <= 3
    config = TrainConfig(
        samples=320, batch_size=8, copies=2, compile=False, lr=3e-3, validate_every=10_000
    )
    trainer = Trainer(config, tiny_config(), data, tmp_path / "run", device="cpu")
    losses = [trainer.step()["flow_loss"] for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    result = trainer.validate()
    assert result["validation_position_mm"] > 0.0


def test_corrections_weigh_half_or_stand_alone(
    dataset: Path, tokenizer: InstructionTokenizer, tmp_path: Path
) -> None:
    made, corrections = load_converted([dataset], tmp_path, SETTINGS, "weighted", tokenizer)
    weighted = repeated(made.data, corrections)
    share = corrections[weighted.train].mean()
    assert share == pytest.approx(0.5, abs=0.01)
    assert set(weighted.train) == set(made.data.train)
    only, marked = load_converted([dataset], tmp_path, SETTINGS, "only", tokenizer)
    assert marked.all()
    assert len(only.data.state) == ROWS // 4
    with pytest.raises(DatasetError, match="no corrections"):
        repeated(made.data, np.zeros_like(corrections))


def test_two_sets_become_one(
    dataset: Path, tokenizer: InstructionTokenizer, tmp_path: Path
) -> None:
    first = load_converted([dataset], tmp_path, SETTINGS, "all", tokenizer)[0].data
    second = load_converted(
        [dataset], tmp_path, SETTINGS, "only", tokenizer, statistics=first.statistics
    )[0].data
    both = joined(first, second)
    count = len(first.state)
    assert len(both.state) == count + len(second.state) == len(both.images)
    index = np.array([count])
    np.testing.assert_array_equal(both.read_images(index), second.read_images(np.array([0])))
    tokens, _ = both.instruction_tokens(index, both.state.new_zeros(1))
    assert tokens[0].tolist() == tokenizer.encode("pick up the red block")[0].tolist()


def test_a_dataset_that_does_not_fit_is_refused(
    dataset: Path, tokenizer: InstructionTokenizer, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no dataset in"):
        Dataset(tmp_path)
    other = ChunkSettings(cameras=("scene", "head"))
    with pytest.raises(DatasetError, match="no camera 'head' of 96x96 px; it has scene 96x96"):
        load_converted([dataset], tmp_path, other, "all", tokenizer)
