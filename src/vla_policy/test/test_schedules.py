# SPDX-License-Identifier: Apache-2.0
"""Schedules: what is inferred from, and what of the result is sent, on chunks made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FakeObservation
from scipy.spatial.transform import Rotation

from vla_policy import RobotState, default_checkpoint, load_policy
from vla_policy.continuation import overlap_weights
from vla_policy.control import to_control_chunk
from vla_policy.policy import NanoPi0Policy
from vla_policy.poses import make_pose
from vla_policy.samplers import guided, real_time_chunking
from vla_policy.schedules import SCHEDULES, DelayWindow, make_schedule, resample
from vla_policy.schedules.temporal_ensembling import DECAY, ensemble
from vla_policy.types import ActionChunk, PolicyError
from vla_sim.simulation import Simulation

STEP = 50_000_000  # ns
H = 16


def straight(stamp_ns: int, speed: float = 0.1, turn: float = 0.5, offset: float = 0.0) -> Any:
    """A chunk along x at a steady speed, turning about z, the gripper closing."""
    t = 0.05 * np.arange(H)
    position = np.stack([offset + speed * t, np.zeros(H), np.full(H, 0.3)], axis=1)
    rotation = Rotation.from_rotvec(np.outer(turn * t, [0.0, 0.0, 1.0])).as_matrix()
    return ActionChunk(
        stamp_ns, 0.05, make_pose(position, rotation), 0.08 - 0.1 * t, np.zeros((5, H, 4)), 0, "p"
    )


class Recording:
    """A policy that returns prepared chunks and keeps what it was asked."""

    has_flow = True

    def __init__(self, *chunks: ActionChunk) -> None:
        self.spec = SimpleNamespace(horizon=H, step_dt=0.05, execute_steps=8)
        self.states: list[RobotState] = []
        self.guidances: list[Any] = []
        self._chunks = list(chunks)

    def act(self, context: Any, state: RobotState, guidance: Any = None) -> ActionChunk:
        self.states.append(state)
        self.guidances.append(guidance)
        return self._chunks.pop(0)


def at(stamp_ns: int, x: float = 0.0) -> RobotState:
    return RobotState(
        stamp_ns, np.zeros(7), np.zeros(7), 0.08, make_pose(np.array([x, 0, 0.3]), np.eye(3))
    )


def schedule(name: str, delay_steps: int = 4, **more: Any) -> Any:
    return make_schedule(name, Recording(), 0.05 * delay_steps, **more)  # type: ignore[arg-type]


def test_the_delay_is_the_largest_of_the_last_ten() -> None:
    delay = DelayWindow(0.05, initial=0.1)
    assert delay.steps == 2
    delay.measured(0.61)  # a spike, such as the first inference
    assert delay.steps == 13
    for _ in range(9):
        delay.measured(0.149)
    assert delay.steps == 13
    delay.measured(0.149)
    assert delay.steps == 3, "a spike is forgotten"
    for value in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="delay"):
            delay.measured(value)


def test_what_is_left_of_a_chunk_between_its_steps() -> None:
    chunk = straight(0)
    poses, openings = resample(chunk, 8 * STEP)
    np.testing.assert_array_equal(poses, chunk.poses_tool_in_base[8:])
    poses, openings = resample(chunk, 8 * STEP + STEP // 4)
    assert len(poses) == len(openings) == 7, "the last step is 0.75 before its end"
    t = 0.05 * (8.25 + np.arange(7))
    np.testing.assert_allclose(poses[:, 0, 3], 0.1 * t)
    np.testing.assert_allclose(Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()[:, 2], 0.5 * t)
    np.testing.assert_allclose(openings, 0.08 - 0.1 * t)
    # Rounded to the grid, as is done where inferences are assumed to start on it, all would be
    # a quarter of a step off.
    assert abs(poses[0, 0, 3] - chunk.poses_tool_in_base[8, 0, 3]) > 0.001
    assert len(resample(chunk, 16 * STEP)[1]) == 0
    assert len(resample(chunk, 15 * STEP + 1000)[1]) == 1  # on the grid within its tolerance
    with pytest.raises(ValueError, match="begins"):
        resample(chunk, -STEP)


def test_periods_and_limits() -> None:
    assert [schedule("asynchronous", d).period_steps for d in (0, 4, 8)] == [8, 8, 8]
    assert schedule("asynchronous").due_ns(0, 4 * STEP) == 8 * STEP
    assert schedule("synchronous").due_ns(0, 4 * STEP) == 12 * STEP
    with pytest.raises(ValueError, match="a delay of 9 steps is too long"):
        schedule("rtc", 9)
    with pytest.raises(ValueError, match=r"'later'; valid: asynchronous, synchronous"):
        schedule("later")
    late = schedule("rtc")
    assert not late.is_late
    late.delay.measured(0.45)
    assert late.is_late


def test_a_held_prefix_leaves_what_is_executed_free() -> None:
    for name, soft, max_weight in (("rtc", True, 5.0), ("rtc_prefix", False, 1.0)):
        plan, policy = schedule(name), Recording(straight(0), straight(8 * STEP))
        plan.act(policy, None, at(0))
        assert plan.act(policy, None, at(8 * STEP)).conditioned_steps == 4
        held = policy.guidances[1]
        assert held.weights[:4].tolist() == [1.0] * 4
        assert bool(held.weights[4:8].any()) == soft
        assert not held.weights[8:].any()
        assert held.max_weight == max_weight


def test_a_policy_without_a_flow_cannot_be_guided() -> None:
    policy = Recording()
    policy.has_flow = False
    with pytest.raises(ValueError, match="'rtc' needs a policy with a flow; valid here: asynch"):
        make_schedule("rtc", policy, 0.1)  # type: ignore[arg-type]


def test_synchronous_chunks_begin_when_they_arrive_and_end_after_the_steps_executed() -> None:
    sent = schedule("synchronous").deliver(straight(0), 4 * STEP)
    assert sent.stamp_ns == 4 * STEP
    assert len(sent.poses_tool_in_base) == len(sent.gripper_opening) == 9


def test_ensembling_weighs_the_oldest_most() -> None:
    old, new = straight(0), straight(8 * STEP, offset=1.0)
    plan = schedule("temporal_ensembling")
    policy: Any = Recording(old, new)
    plan.act(policy, None, at(0))
    mean = plan.act(policy, None, at(8 * STEP))
    left = 1.0 - np.arange(8) / 8
    weight = left / (left + np.exp(-DECAY))
    assert weight[0] > 0.5
    expected = (
        weight * old.poses_tool_in_base[8:, 0, 3]
        + (1 - weight) * (new.poses_tool_in_base[:8, 0, 3])
    )
    np.testing.assert_allclose(mean.poses_tool_in_base[:8, 0, 3], expected)
    np.testing.assert_array_equal(mean.poses_tool_in_base[8:], new.poses_tool_in_base[8:])
    plan.reset()
    again = plan.act(Recording(new), None, at(8 * STEP))  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.poses_tool_in_base, new.poses_tool_in_base)


def test_the_mean_does_not_jump_where_the_older_chunk_ends() -> None:
    old, new = straight(0), straight(8 * STEP, offset=0.2)
    rest = resample(old, 8 * STEP)
    ensembled, _ = ensemble([rest, (new.commanded, new.gripper_opening)])

    def largest_step(commanded: np.ndarray) -> float:
        return float(np.abs(np.diff(commanded[:, 0, 3])).max())

    apart = float(new.commanded[0, 0, 3] - rest[0][0, 0, 3])
    assert largest_step(ensembled) < largest_step(new.commanded) + 1.2 * apart / 8
    # The positive control: without fading out, half of what the two differ is made up in one step.
    fixed = new.commanded.copy()
    fixed[:8] = 0.5 * (fixed[:8] + rest[0])
    assert largest_step(fixed) > largest_step(new.commanded) + 0.45 * apart


def test_means_of_rotations_are_taken_on_the_group() -> None:
    # Half a turn from both sides: the mean of the vectors would be no rotation at all.
    turns = Rotation.from_rotvec([[0, 0, np.pi - 0.1], [0, 0, -np.pi + 0.1]]).as_matrix()
    parts = [(make_pose(np.zeros((1, 3)), turn[None]), np.zeros(1)) for turn in turns]
    poses, _ = ensemble(parts)
    assert Rotation.from_matrix(poses[0, :3, :3]).magnitude() == pytest.approx(np.pi, abs=1e-2)


def test_the_state_is_rolled_forward_to_where_the_chunk_begins() -> None:
    class Arm:
        def forward_kinematics(self, q: Any) -> Any:
            return make_pose(np.array([q[0], q[1], 0.3]), np.eye(3))

        def inverse_kinematics(self, pose: Any, q_seed: Any) -> Any:
            return np.array([pose[0, 3], pose[1, 3], 0, 0, 0, 0, 0]), True

    old, new = straight(0, turn=0.0), straight(8 * STEP, turn=0.0)
    policy: Any = Recording(old, new)
    plan = schedule("vlash", 4, kinematics=Arm())
    assert plan.act(policy, None, at(0)).stamp_ns == 0, "no chunk before: no future is known"
    # The arm lags 1 cm behind the command; it will do so four steps later, too.
    chunk = plan.act(policy, None, at(8 * STEP, x=0.03))
    future = policy.states[1]
    assert chunk.stamp_ns == future.stamp_ns == 12 * STEP
    assert future.pose_tool_in_base[0, 3] == pytest.approx(0.03 + 0.1 * 0.2)
    assert future.q[0] == pytest.approx(0.05)
    assert future.dq[0] == pytest.approx(0.1)
    assert future.gripper_opening == pytest.approx(0.08 - 0.1 * 0.2)
    plan, policy = schedule("vlash"), Recording(old, new)
    plan.act(policy, None, at(0))
    with pytest.raises(PolicyError, match="kinematics"):
        plan.act(policy, None, at(8 * STEP))


def joints(stamp_ns: int, speed: float = 0.1) -> ActionChunk:
    """A chunk of joint positions that move at a steady speed."""
    q = np.outer(0.05 * speed * np.arange(H), np.arange(1, 8))
    return ActionChunk(stamp_ns, 0.05, q, np.full(H, 0.08), np.zeros((1, H, 1)), 0, "p")


def test_schedules_take_joint_positions_too() -> None:
    chunk = joints(0)
    rest, _ = resample(chunk, 8 * STEP + STEP // 4)
    np.testing.assert_allclose(rest[:, 1], 2 * 0.1 * 0.05 * (8.25 + np.arange(7)))
    assert resample(chunk, 16 * STEP)[0].shape == (0, 7)
    assert schedule("synchronous").deliver(chunk, 0).commanded.shape == (9, 7)
    still = [(np.full((H, 7), value), np.zeros(H)) for value in (0.0, 1.0)]
    left = 1.0 - np.arange(H)[:, None] / H
    expected = np.exp(-DECAY) / (left + np.exp(-DECAY)) * np.ones(7)
    np.testing.assert_allclose(ensemble(still)[0], expected, atol=1e-12)

    class Arm:
        def forward_kinematics(self, q: Any) -> Any:
            return make_pose(np.array([q[0], 0.0, 0.3]), np.eye(3))

    policy: Any = Recording(chunk, chunk)
    plan = schedule("vlash", 4, kinematics=Arm())
    plan.act(policy, None, at(0))
    plan.act(policy, None, at(8 * STEP))
    np.testing.assert_allclose(policy.states[1].q, 0.1 * 0.2 * np.arange(1, 8))
    np.testing.assert_allclose(policy.states[1].dq, 0.1 * np.arange(1, 8))
    assert policy.states[1].pose_tool_in_base[0, 3] == pytest.approx(0.02)


@pytest.fixture(scope="module")
def policy() -> NanoPi0Policy:
    loaded = load_policy(default_checkpoint())
    assert isinstance(loaded, NanoPi0Policy)
    return loaded


@pytest.mark.parametrize("offset", [0.0, 0.017])
def test_real_time_chunking_goes_on_in_the_new_observation_s_frame(
    policy: NanoPi0Policy, sim: Simulation, offset: float
) -> None:
    sim.reset("place", 1_000_003)
    policy.reset(0)
    plan = make_schedule("rtc", policy, 0.2)
    observation = sim.observe()
    first = RobotState.of(observation)
    old = plan.act(policy, policy.encode(observation), first)
    chunk = to_control_chunk(old, sim.robot.base_frame, sim.robot.tool_frame)
    assert sim.push_chunk(chunk).name == "NONE"
    # The arm moves and turns: the old chunk's numbers mean something else then.
    sim.advance(0.4 + offset)
    observation = sim.observe()
    later = RobotState.of(observation)
    rest, openings = resample(old, later.stamp_ns)
    context = policy.encode(observation)
    held, plain = plan.act(policy, context, later), policy.act(context, later)

    def gap(chunk: ActionChunk) -> float:
        away = chunk.poses_tool_in_base[:4, :3, 3] - rest[:4, :3, 3]
        return float(np.linalg.norm(away, axis=1).mean())

    assert (held.conditioned_steps, plain.conditioned_steps) == (4, 0)
    assert gap(held) < 0.6 * gap(plain)
    # The positive control: held to the old numbers as they were, it goes elsewhere.
    stale = policy.action_frame(first).encode(rest, openings)
    weights = torch.from_numpy(overlap_weights(H, 4, H - len(openings)))
    wrong = policy.act(context, later, guided(real_time_chunking(stale, weights)))
    assert gap(held) < 0.2 * gap(wrong)


def test_real_time_chunking_samples_freely_without_a_chunk_under_way(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    policy.reset(0)
    plan, state = make_schedule("rtc", policy, 0.1), RobotState.of(observation)
    context = policy.encode(observation)
    plain = policy.act(context, state).poses_tool_in_base

    def sample(stamp_ns: int) -> np.ndarray:
        return plan.act(policy, context, replace(state, stamp_ns=stamp_ns)).poses_tool_in_base

    np.testing.assert_array_equal(sample(0), plain)
    assert not np.array_equal(sample(4 * STEP), plain)
    np.testing.assert_array_equal(sample(40 * STEP), plain)  # it has run out
    np.testing.assert_array_equal(sample(0), plain)  # time has gone back
    plan.reset()
    np.testing.assert_array_equal(sample(4 * STEP), plain)


def test_every_schedule_is_listed_by_its_name() -> None:
    assert list(SCHEDULES) == [
        "asynchronous",
        "synchronous",
        "temporal_ensembling",
        "rtc",
        "rtc_prefix",
        "vlash",
    ]
