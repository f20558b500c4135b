# SPDX-License-Identifier: Apache-2.0
"""Experts fulfil their tasks through the controller, and recover from what goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_control
from vla_sim import tasks
from vla_sim.experts import make_expert
from vla_sim.experts.world import rotation_matrix, rotation_vector
from vla_sim.simulation import Simulation

# Their objects stand fast: nobody can move them.
STANDING = ("drawer", "button", "wipe", "knob", "follow")

MakeSim = Callable[..., Simulation]
Intervention = Callable[[Simulation], bool]


def run(sim: Simulation, time_limit: float = 14.0, intervene: Intervention | None = None) -> bool:
    """Run the expert to success; ``intervene`` is called until it says that it has acted."""
    expert = make_expert(sim)
    waiting = intervene
    while sim.scene_state().time < time_limit:
        chunk = expert.act(sim)
        sim.advance(0.1)
        assert sim.push_chunk(chunk) == vla_control.RejectReason.NONE
        sim.advance(0.3)
        if waiting is not None and waiting(sim):
            waiting = None
        if sim.judge().success:
            assert waiting is None, "the intervention never came"
            return True
    return False


@pytest.mark.parametrize("task", tasks.TASKS)
def test_expert_succeeds(make_sim: MakeSim, robot_name: str, task: str) -> None:
    for seed in range(100, 102):
        sim = make_sim(robot_name, task, seed)
        sim.reset(suite="core" if seed % 2 else "basic")
        assert run(sim), f"seed {seed}: {sim.judge()}"
        judgement = sim.judge()
        assert judgement.touched_object == sim.instance.target
        assert judgement.lifted_object in (None, sim.instance.target)


def test_expert_waits_when_the_object_is_absent(make_sim: MakeSim) -> None:
    for task in ("stack", "drawer", "button"):
        sim = make_sim("panda", task, 105)
        sim.reset(suite="absent")
        assert sim.instance.target not in sim.scene_state().positions
        assert run(sim, time_limit=8.0), str(sim.judge())


@pytest.mark.parametrize("task", ["pick", "stack"])
def test_expert_recovers_what_is_taken_away(make_sim: MakeSim, task: str) -> None:
    sim = make_sim("panda", task, 106)
    sim.reset(suite="drop")
    assert run(sim, time_limit=18.0), str(sim.judge())
    assert sim.drop_time is not None
    assert sim.judge().time_to_success > sim.drop_time + 1.0
    sim.reset(suite="core")
    assert run(sim), "the control"
    assert sim.drop_time is None


def _move_cube(sim: Simulation) -> bool:
    sim.displace(sim.instance.target, np.array([0.03, -0.035, 0.0]))
    return True


def _lose_grip(sim: Simulation) -> bool:
    state = sim.scene_state()
    target = sim.instance.target
    if state.finger_contacts[target] < 2 or state.positions[target][2] < 0.06:
        return False
    expert = make_expert(sim)
    poses, openings = expert.plan(sim)
    chunk = expert.chunk(poses, np.full_like(openings, 0.08), stamp_ns=sim.time_ns)
    assert sim.push_chunk(chunk) == vla_control.RejectReason.NONE
    sim.advance(0.4)
    assert sim.scene_state().finger_contacts[target] == 0
    return True


def _shove_arm(sim: Simulation) -> bool:
    hand = sim.model.body(sim.robot.tool_frame).id
    start = sim.observe_pose()[:3, 3]
    sim.data.xfrc_applied[hand, :3] = [25.0, 40.0, 10.0]
    sim.advance(0.3)
    sim.data.xfrc_applied[hand, :] = 0.0
    assert np.linalg.norm(sim.observe_pose()[:3, 3] - start) > 0.03
    return True


@pytest.mark.parametrize("task", tasks.TASKS)
def test_expert_recovers_from_a_shove(make_sim: MakeSim, task: str) -> None:
    sim = make_sim("panda", task, 210)
    assert run(sim, intervene=_shove_arm), str(sim.judge())


@pytest.mark.parametrize("task", [name for name in tasks.TASKS if name not in STANDING])
def test_expert_follows_a_cube_that_is_moved(make_sim: MakeSim, task: str) -> None:
    sim = make_sim("panda", task, 210)
    assert run(sim, intervene=_move_cube), str(sim.judge())


def test_what_stands_fast_cannot_be_moved(make_sim: MakeSim) -> None:
    sim = make_sim("panda", "drawer", 210)
    with pytest.raises(ValueError, match="cannot move 'drawer'; valid: red"):
        sim.displace("drawer", np.zeros(3))


@pytest.mark.parametrize("task", ["pick", "place", "stack", "relation"])
def test_expert_picks_up_what_it_lost(make_sim: MakeSim, task: str) -> None:
    sim = make_sim("panda", task, 211)
    assert run(sim, intervene=_lose_grip), str(sim.judge())


def test_expert_remembers_nothing(make_sim: MakeSim) -> None:
    sim = make_sim("panda", "pick", 212)
    expert = make_expert(sim)
    poses, openings = expert.plan(sim)
    sim.advance(0.0)
    again, same_openings = make_expert(sim).plan(sim)
    assert np.array_equal(poses, again)
    assert np.array_equal(openings, same_openings)


def test_chunks_begin_where_the_reference_is(make_sim: MakeSim) -> None:
    sim = make_sim("panda", "pick", 213)
    run(sim, time_limit=0.8)
    poses, _ = make_expert(sim).plan(sim)
    reference = np.asarray(sim.controller.state().reference_pose_tool_in_base)
    np.testing.assert_allclose(poses[0], reference, atol=1e-9)
    speeds = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) / 0.05
    assert speeds.max() < 0.3
    for pose in poses:
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3))
def test_rotation_vector_inverts_rotation_matrix(values: list[float]) -> None:
    vector = np.array(values)
    rotation = rotation_matrix(vector)
    np.testing.assert_allclose(rotation_matrix(rotation_vector(rotation)), rotation, atol=1e-7)
    if np.linalg.norm(vector) < 3.0:
        np.testing.assert_allclose(rotation_vector(rotation), vector, atol=1e-6)


def test_rotation_vector_at_half_a_turn() -> None:
    for axis in np.eye(3):
        rotation = rotation_matrix(np.pi * axis)
        np.testing.assert_allclose(rotation_matrix(rotation_vector(rotation)), rotation, atol=1e-7)
