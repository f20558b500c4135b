# SPDX-License-Identifier: Apache-2.0
"""A π0 of others, with a ``policy.yaml`` beside it, is a policy like any other."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import FakeObservation
from pi0_folders import (
    GOLDEN,
    HORIZON,
    SIZE,
    TOLERANCE,
    lerobot_folder,
    read_golden,
    use_small_widths,
    write_as_transformers,
)
from safetensors.numpy import save_file
from servers import remote, served

from vla_policy import ActionSpec, RobotState, load_policy
from vla_policy.evaluation.evaluate import EvaluationConfig, evaluate
from vla_policy.interface import ActItem
from vla_policy.pi0.contract import read_contract
from vla_policy.pi0.policy import Pi0Policy
from vla_policy.samplers import KeepOutSphere, guided, reward_objective
from vla_policy.schedules import make_schedule
from vla_policy.types import CheckpointError, ObservationMismatchError

TENSORS, DESCRIPTION = read_golden()
JOINTS = tuple(f"joint{i}" for i in range(8))
CONTRACT = {
    "robot": "golden",
    "joint_names": list(JOINTS),
    "cameras": {"base": "scene", "wrist": "hand", "absent": None},
    "state": ["joint_position", "gripper_opening"],
    "action": "libero",
    "max_opening": 0.08,
    "execute_steps": 3,
    "latency_s": 0.1,
}
RNG = np.random.default_rng(3)
# Two decimals, so that they are the same in float32 and in JSON.
STATE_MEAN, STATE_STD = RNG.normal(size=9).round(2), RNG.uniform(0.5, 1.5, 9).round(2)
ACTION_MEAN, ACTION_STD = RNG.normal(size=7).round(2), RNG.uniform(0.1, 0.3, 7).round(2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_widths(monkeypatch)


def write_normaliser(folder: Path, mode: str = "MEAN_STD", **steps: dict[str, Any]) -> None:
    """LeRobot's statistics, as its processors keep them."""
    document = {
        "steps": [
            {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
            {"registry_name": "relative_actions_processor", "config": {"enabled": False}},
            {
                "registry_name": "normalizer_processor",
                "config": {"norm_map": {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}},
                "state_file": "policy_preprocessor_step_2_normalizer_processor.safetensors",
            },
            *({"registry_name": name, "config": config} for name, config in steps.items()),
        ]
    }
    (folder / "policy_preprocessor.json").write_text(json.dumps(document))
    values = {}
    for name, mean, std in (
        ("observation.state", STATE_MEAN, STATE_STD),
        ("action", ACTION_MEAN, ACTION_STD),
    ):
        values |= {f"{name}.mean": mean, f"{name}.std": std}
        values |= {f"{name}.q01": mean - std, f"{name}.q99": mean + std}
    path = folder / "policy_preprocessor_step_2_normalizer_processor.safetensors"
    save_file({name: value.astype(np.float32) for name, value in values.items()}, path)


def write_contract(folder: Path, **change: Any) -> None:
    entries = {name: v for name, v in {**CONTRACT, **change}.items() if v is not ...}
    (folder / "policy.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = lerobot_folder(tmp_path_factory.mktemp("pi0"), DESCRIPTION)
    write_normaliser(folder)
    write_contract(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One that a test may spoil."""
    copy = tmp_path / "pi0"
    shutil.copytree(made, copy, ignore=shutil.ignore_patterns("model.safetensors"))
    (copy / "model.safetensors").symlink_to(made / "model.safetensors")
    return copy


@pytest.fixture
def observation() -> FakeObservation:
    """The golden one, of the robot whose state the statistics make it of."""
    state = TENSORS["state"][0].double().numpy() * STATE_STD + STATE_MEAN
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])
    pose[:3, 3] = [0.5, 0.0, 0.3]
    return FakeObservation(
        stamp_ns=5_000_000,
        images={
            "scene": TENSORS["image.base"][0].numpy(),
            "hand": TENSORS["image.wrist"][0].numpy(),
        },
        q=state[:8],
        dq=np.zeros(8),
        gripper_opening=float(state[8]),
        instruction=DESCRIPTION["tasks"][0],
        pose_tool_in_base=pose,
    )


@dataclass(frozen=True)
class Expected:
    """LeRobot's own actions, through our contract."""

    poses: np.ndarray
    openings: np.ndarray

    @staticmethod
    def of(policy: Pi0Policy, observation: FakeObservation, name: str) -> Expected:
        actions = TENSORS[name][0, :, :7].double().numpy() * ACTION_STD + ACTION_MEAN
        return Expected(*policy.spec.action.decode(observation.pose_tool_in_base, actions))


def load(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Pi0Policy:
    policy = load_policy(folder)
    assert isinstance(policy, Pi0Policy)
    if monkeypatch is not None:  # the golden actions have the golden noise
        monkeypatch.setattr(policy, "_noise", lambda seed, context: TENSORS["noise"][0])
    return policy


def assert_lerobots(policy: Pi0Policy, observation: FakeObservation, name: str) -> None:
    chunk = policy.act(policy.encode(observation), RobotState.of(observation))
    expected = Expected.of(policy, observation, name)
    np.testing.assert_allclose(chunk.poses_tool_in_base, expected.poses, atol=TOLERANCE)
    np.testing.assert_allclose(chunk.gripper_opening, expected.openings, atol=TOLERANCE)
    assert chunk.features.shape == policy.spec.feature_shape == (10, HORIZON, 24)
    assert np.isfinite(chunk.features).all()


@pytest.mark.parametrize("mode", ["MEAN_STD", "QUANTILES"])
def test_a_chunk_is_lerobots(
    folder: Path, observation: FakeObservation, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = load(folder).spec.policy_id
    write_normaliser(folder, mode)
    policy = load(folder, monkeypatch)
    assert (policy.spec.policy_id == before) == (mode == "MEAN_STD")
    assert policy.spec.cameras == ("scene", "hand")
    assert policy.spec.state_names[0] == "joint_position/joint0"
    assert (policy.spec.image_size, policy.spec.fits_images) == (SIZE, True)
    assert_lerobots(policy, observation, "actions")


def test_a_chunk_is_lerobots_in_the_layout_of_transformers(
    folder: Path, tmp_path: Path, observation: FakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "transformers"
    write_as_transformers(load(folder).network, other)
    # It does not say how it was normalised: that is ours to keep, one row for all steps.
    statistics = {
        "samples": 1,
        "state": {"mean": STATE_MEAN.tolist(), "std": STATE_STD.tolist()},
        "action": {"mean": ACTION_MEAN.tolist(), "std": ACTION_STD.tolist()},
    }
    (other / "statistics.json").write_text(json.dumps(statistics))
    write_contract(other)
    assert_lerobots(load(other, monkeypatch), observation, "actions")


def test_an_adapter_on_weights_elsewhere(
    folder: Path, tmp_path: Path, observation: FakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    shutil.copytree(GOLDEN / "pi0_lora", own / "lora")
    write_contract(own, weights="../pi0", adapter="lora")
    policy = load(own, monkeypatch)
    assert_lerobots(policy, observation, "actions_lora")
    assert policy.spec.policy_id != load(folder).spec.policy_id


def test_batches_seeds_and_counts(made: Path, observation: FakeObservation) -> None:
    policy = load(made)
    state = RobotState.of(observation)
    # Images of another size, as a second robot of the same kind may have.
    other = replace(observation, images={"scene": np.zeros((40, 40, 3), np.uint8)} | {
        "hand": observation.images["hand"]
    })  # fmt: skip
    contexts = policy.encode_batch([(observation, 0), (other, 4)])
    chunks = policy.act_batch([ActItem(contexts[0], state, 0), ActItem(contexts[1], state, 1)])
    alone = policy.act(policy.encode(observation), state)
    np.testing.assert_allclose(chunks[0].features, alone.features, atol=1e-4)
    assert chunks[1].inference_id == 4
    assert not np.allclose(chunks[1].features, alone.features, atol=1e-2)


def test_real_time_chunking_holds_to_the_chunk_before(
    made: Path, observation: FakeObservation
) -> None:
    policy = load(made)
    schedule = make_schedule("rtc", policy, 0.05)
    first = schedule.act(policy, policy.encode(observation), RobotState.of(observation))
    step = round(policy.spec.step_dt * 1e9)
    later = replace(observation, stamp_ns=observation.stamp_ns + step)
    context, state = policy.encode(later), RobotState.of(later)
    guided_chunk, free = schedule.act(policy, context, state), policy.act(context, state)
    assert guided_chunk.conditioned_steps == 1

    def distance(chunk: Any) -> float:
        away = chunk.poses_tool_in_base[0, :3, 3] - first.poses_tool_in_base[1, :3, 3]
        return float(np.linalg.norm(away))

    assert distance(guided_chunk) < 0.5 * distance(free)


def test_rewards_steer_it(made: Path, observation: FakeObservation) -> None:
    policy = load(made)
    context, state = policy.encode(observation), RobotState.of(observation)
    plain = policy.act(context, state).poses_tool_in_base[:, :3, 3]
    sphere = KeepOutSphere(plain[-1] + [0.001, 0.0, 0.0], 0.05)
    objective = reward_objective(sphere, policy.action_frame(state), strength=5.0)
    steered = policy.act(context, state, guided(objective)).poses_tool_in_base[:, :3, 3]
    away = [np.linalg.norm(path[-1] - sphere.centre) for path in (plain, steered)]
    assert away[1] > 2.0 * away[0]


def test_padding_is_zero_for_the_network(made: Path, observation: FakeObservation) -> None:
    policy = load(made)
    state = RobotState.of(observation)
    chunk = policy.act(policy.encode(observation), state)
    frame = policy.action_frame(state)
    encoded = frame.encode(chunk.poses_tool_in_base, chunk.gripper_opening)
    assert encoded.shape == (1, HORIZON, 32)
    assert not encoded[..., 7:].any()
    assert not policy.network_state(state)[:, 9:].any()


def test_joint_velocities_of_droid(folder: Path, observation: FakeObservation) -> None:
    network = json.loads((folder / "config.json").read_text())
    for name, kind in (("input_features", "observation.state"), ("output_features", "action")):
        network[name][kind]["shape"] = [32]  # as a base model says
    (folder / "config.json").write_text(json.dumps(network))
    (folder / "policy_preprocessor.json").unlink()
    rows = {"mean": [0.0] * 8, "std": [0.1] * 8}
    statistics = {"samples": 1, "state": rows, "action": rows}
    (folder / "statistics.json").write_text(json.dumps(statistics))
    write_contract(
        folder,
        joint_names=list(JOINTS[:7]),
        state=["joint_position", "gripper_closed"],
        action="droid_joint_velocity",
    )
    policy = load(folder)
    seven = replace(observation, q=np.full(7, 0.3), dq=np.zeros(7))
    chunk = policy.act(policy.encode(seven), RobotState.of(seven))
    assert chunk.is_joint
    assert chunk.commanded.shape == (HORIZON, 7)
    frame = policy.action_frame(RobotState.of(seven))
    assert frame.encode(chunk.commanded, chunk.gripper_opening).shape == (1, HORIZON, 32)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(robot: .*?)```", text, re.DOTALL)
    (tmp_path / "policy.yaml").write_text(example)
    contract = read_contract(tmp_path)
    assert list(contract.cameras.values()) == ["scene", "wrist", None]
    assert len(contract.state_names) == contract.action.action.dim + 1 == 8


def test_a_server_gives_the_same_chunks(made: Path, observation: FakeObservation) -> None:
    here = load(made)
    near = here.act(here.encode(observation), RobotState.of(observation))
    with served(load(made)) as (address, _):
        there = remote(address)
        assert there.spec == here.spec
        far = there.act(there.encode(observation), RobotState.of(observation))
    np.testing.assert_allclose(far.poses_tool_in_base, near.poses_tool_in_base, atol=1e-6)


def test_it_is_evaluated_on_the_simulated_arm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joints = [f"panda_joint{i}" for i in range(1, 8)]
    write_contract(
        folder,
        robot="panda",
        joint_names=joints,
        cameras={"base": "scene", "wrist": "wrist", "absent": None},
        state=["joint_position", "finger_positions"],
    )
    # The tests' tokenizer knows few words and spells the others.
    network = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**network, "tokenizer_max_length": 60}))
    monkeypatch.setattr("vla_policy.evaluation.evaluate.TIME_LIMITS", {"touch": 0.5})
    config = EvaluationConfig(folder, suite="touch", episodes=1, workers=1)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        evaluate(config)  # who knows what scenes it has seen
    manifest = {"demonstrations": [], "selection_seeds": [], "validation_seeds": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    try:
        result = evaluate(config)
    finally:
        torch.use_deterministic_algorithms(False)
    assert result["episodes"][0]["inferences"] >= 2
    assert result["settings"]["policy_id"] == load(folder).spec.policy_id


@pytest.mark.parametrize("view", [bytes, bytearray, "bgr"])
def test_views_of_messages_are_read_as_what_they_show(
    made: Path, observation: FakeObservation, view: Any
) -> None:
    policy = load(made)

    def seen_in(image: Any) -> Any:
        if view == "bgr":  # turned to RGB by a negative stride
            return np.ascontiguousarray(image[..., ::-1])[..., ::-1]
        return np.frombuffer(view(image.tobytes()), dtype=np.uint8).reshape(image.shape)

    views = {name: seen_in(image) for name, image in observation.images.items()}
    before = {name: image.copy() for name, image in views.items()}
    seen, *_ = policy.read([replace(observation, images=views)])
    expected, *_ = policy.read([observation])
    assert torch.equal(seen, expected)
    assert all(np.array_equal(views[name], before[name]) for name in views), "it was changed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"scene": np.zeros((9, 9, 3), np.uint8)}}, "'hand' is missing; found: scene"),
        ({"images": {"scene": np.zeros((9, 9)), "hand": np.zeros((9, 9, 3))}}, "'scene' is float"),
        ({"q": np.full(8, np.nan)}, "not finite: joint_position/joint0"),
        ({"instruction": " "}, "empty"),
        ({"instruction": "pick " * 900}, "4500 characters"),
        ({"instruction": DESCRIPTION["tasks"][1]}, "reads 12 tokens"),
    ],
)
def test_observations_that_do_not_fit_are_refused(
    made: Path, observation: FakeObservation, change: dict[str, Any], message: str
) -> None:
    policy, bad = load(made), replace(observation, **change)
    with pytest.raises(ObservationMismatchError, match=message):
        policy.act(policy.encode(bad), RobotState.of(bad))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": {"base": "scene", "hand": "hand"}}, "base, wrist, absent"),
        ({"cameras": {"base": "scene", "wrist": "scene", "absent": None}}, "twice"),
        ({"cameras": ["scene"]}, "the network's cameras to the robot's"),
        ({"state": ["joint_position"]}, "state has 8 entries; the network is for 9"),
        ({"state": ["joints"]}, "unknown part 'joints'.*joint_position"),
        ({"state": ["gripper_closed"], "max_opening": ...}, "needs max_opening"),
        ({"state": ["euler_xx"]}, "euler_convention is 'xx'"),
        ({"action": "libre"}, "'libre'; valid: .*libero"),
        ({"action": "droid_joint_velocity"}, "is for 7 joints, not 8"),
        ({"max_opening": ...}, "max_opening is None"),
        ({"execute_steps": 7}, "execute_steps is 7; valid: 1..horizon = 6"),
        ({"robot": ...}, "lacks robot"),
        ({"camera": {}}, "unknown camera; valid: robot"),
        ({"weights": "nowhere"}, "no folder"),
        ({"adapter": "nowhere"}, "no folder"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    write_contract(folder, **change)
    with pytest.raises(CheckpointError, match=message):
        load_policy(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("policy.yaml", "policy.yaml is missing"),
        ("tokenizer.json", "tokenizer.json is missing"),
        ("config.json", "config.json is missing"),
        ("model.safetensors", "model.safetensors is missing"),
        ("policy_preprocessor.json", "statistics are missing"),
        ("policy_preprocessor_step_2_normalizer_processor.safetensors", "statistics are missing"),
    ],
)
def test_missing_files_are_named(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_policy(folder)


def test_normalisation_that_is_not_known_is_refused(folder: Path) -> None:
    for mode, message in (("IDENTITY", "IDENTITY; valid: MEAN_STD"), ("MIN_MAX", "state.min")):
        write_normaliser(folder, mode)
        with pytest.raises(CheckpointError, match=message):
            load_policy(folder)
    write_normaliser(folder, delta_actions_processor={"enabled": True})
    with pytest.raises(CheckpointError, match="'delta_actions_processor', which is not supported"):
        load_policy(folder)
    write_normaliser(folder)
    (folder / "statistics.json").write_text("{}")
    with pytest.raises(CheckpointError, match="keep one"):
        load_policy(folder)


def test_statistics_of_another_length_are_refused(folder: Path) -> None:
    (folder / "policy_preprocessor.json").unlink()
    statistics = {
        "samples": 1,
        "state": {"mean": [0.0] * 9, "std": [1.0] * 9},
        "action": {"mean": [0.0] * 8, "std": [1.0] * 8},
    }
    (folder / "statistics.json").write_text(json.dumps(statistics))
    with pytest.raises(CheckpointError, match="8 entries of the action; the contract has 7"):
        load_policy(folder)
    del statistics["action"]
    (folder / "statistics.json").write_text(json.dumps(statistics))
    with pytest.raises(CheckpointError, match="'action'"):
        load_policy(folder)


def test_it_computes_in_bfloat16_too(
    folder: Path, observation: FakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vla_policy.pi0 import policy as pi0_policy

    exact = load(folder, monkeypatch)
    load_network = pi0_policy.load_network
    monkeypatch.setattr(
        pi0_policy, "load_network", lambda shape, dtype: load_network(shape, dtype=torch.bfloat16)
    )
    coarse = load(folder, monkeypatch)
    assert coarse.network.dtype == torch.bfloat16
    assert coarse.network.pi0.model.dit.rotary_emb.inv_freq.dtype == torch.float32
    state = RobotState.of(observation)
    features = [one.act(one.encode(observation), state).features for one in (exact, coarse)]
    assert features[1].dtype == np.float32
    spread = np.std(features[0])
    assert 1e-4 * spread < np.abs(features[1] - features[0]).mean() < 0.1 * spread


def test_parts_of_the_state(observation: FakeObservation) -> None:
    from vla_policy.state_parts import make_state_parts

    state = replace(RobotState.of(observation), gripper_opening=0.02)
    parts = make_state_parts(
        (
            *("joint_velocity", "position", "rotation_vector", "quat_xyzw", "6d", "euler_xyz"),
            *("gripper_closed", "finger_positions"),
        ),
        JOINTS,
        0.08,
    )
    values = [part.encode(state) for part in parts]
    assert [len(value) for value in values] == [len(part.names) for part in parts]
    np.testing.assert_allclose(values[2], [np.pi, 0.0, 0.0])
    np.testing.assert_allclose(values[6], [0.75])
    np.testing.assert_allclose(values[7], [0.01, -0.01])


def test_the_contract_of_libero_is_the_one_that_is_read(made: Path) -> None:
    spec = load(made).spec.action
    assert isinstance(spec, ActionSpec)
    assert (spec.quantity, spec.relative_to, spec.gripper.max_opening) == (
        "pose",
        "previous_step",
        0.08,
    )
