# SPDX-License-Identifier: Apache-2.0
"""Distances of every arm to itself and to its table, beside MuJoCo's; what they hold up."""

from __future__ import annotations

import dataclasses
import functools
import time

import numpy as np
import pytest

import vla_control
from vla_sim import arms, collision, robots, scene
from vla_sim.control_bench import collisions
from vla_sim.simulation import Simulation

FAR = 10.0  # m, beyond every pair


@functools.cache
def model_of(name: str) -> vla_control.RobotModel:
    return vla_control.RobotModel(robots.get(name).description())


def postures(name: str, count: int, spread: float = 1.5) -> np.ndarray:
    robot, model = robots.get(name), model_of(name)
    rng = np.random.default_rng(5)
    low = np.maximum(model.position_lower, robot.home_q - spread)
    high = np.minimum(model.position_upper, robot.home_q + spread)
    return rng.uniform(low, high, (count, len(robot.home_q)))


def least_by_pair(
    monitor: vla_control.CollisionMonitor, q: np.ndarray
) -> dict[tuple[str, str], float]:
    out: dict[tuple[str, str], float] = {}
    for found in monitor.compute(q):
        pair = monitor.pairs[found.pair]
        out[pair] = min(out.get(pair, np.inf), found.distance)
    return out


@pytest.mark.parametrize("name", arms.names())
def test_bodies_contain_what_mujoco_collides(name: str) -> None:
    """No pair is nearer than the monitor says, and none is farther by more than the radii."""
    robot = robots.get(name)
    monitor = collision.make_monitor(robot, [collision.table()], horizon=FAR)
    model = scene.build_model(robot)
    truth = collisions.TrueDistance(model, sorted(set(monitor.pairs)))
    arm = [model.joint(n).qposadr[0] for n in robot.joint_names]
    fingers = [model.joint(n).qposadr[0] for n in robot.finger_joint_names]
    qpos = truth.data.qpos.copy()
    qpos[fingers] = 0.5 * robot.max_opening
    slack = 2.0 * monitor.largest_excess + 1e-3
    assert slack < 0.02
    touching = 0
    for q in postures(name, 40):
        qpos[arm] = q
        ours = least_by_pair(monitor, q)
        for pair, distance in truth.of(qpos, horizon=1.0).items():
            if distance >= 1.0:
                continue
            assert ours[pair] <= distance + 2e-4, pair
            if distance > 0.0:
                assert ours[pair] >= distance - slack, pair
            touching += distance < 0.0
    assert touching > 0  # the postures reach what matters


@pytest.mark.parametrize("name", arms.names())
def test_rows_are_the_gradient_of_the_distance(name: str) -> None:
    monitor = collision.make_monitor(robots.get(name), [collision.table()], horizon=FAR)
    step = 5e-4
    errors, sizes = [], []
    for q in postures(name, 6, spread=0.8):
        rows = {d.pair: (d.distance, d.row) for d in monitor.compute(q)}
        for joint in range(len(q)):
            shift = np.eye(len(q))[joint] * step
            ahead = {d.pair: d.distance for d in monitor.compute(q + shift)}
            behind = {d.pair: d.distance for d in monitor.compute(q - shift)}
            for pair, (distance, row) in rows.items():
                if distance < 0.005:
                    continue
                measured = (ahead[pair] - behind[pair]) / (2 * step)
                errors.append(abs(measured - row[joint]))
                sizes.append(abs(row[joint]))
    # Parallel faces have no single nearest point: there the rows may jump.
    assert np.percentile(errors, 98) < 5e-3
    assert np.percentile(sizes, 90) > 0.1


@pytest.mark.parametrize("name", arms.names())
def test_turning_the_whole_arm_changes_no_distance_to_itself(name: str) -> None:
    """Nor to a level half space; a box knows which way it is turned."""
    robot = robots.get(name)
    floor = vla_control.Obstacle("floor", [0.0, 0.0, -0.2])
    monitor = collision.make_monitor(robot, [floor], horizon=FAR)
    for q in postures(name, 5):
        turned = q.copy()
        turned[0] += 0.4
        before = least_by_pair(monitor, q)
        after = least_by_pair(monitor, turned)
        fixed = _fixed_links(name)
        for pair, distance in before.items():
            if fixed.isdisjoint(pair):
                assert after[pair] == pytest.approx(distance, abs=1e-4), pair
        for found in monitor.compute(q):
            if fixed.isdisjoint(monitor.pairs[found.pair]):
                assert abs(found.row[0]) < 1e-4


def _fixed_links(name: str) -> set[str]:
    """Links that the first joint does not turn: they have no distance to what stands still."""
    wall = vla_control.Obstacle("wall", [5.0, 0.0, 0.0], [0.1, 0.1, 0.1])
    monitor = collision.make_monitor(robots.get(name), [wall], horizon=FAR)
    seen = {a for a, b in monitor.pairs if b == "wall"}
    fingers = set(robots.get(name).finger_bodies)
    return {a for pair in monitor.pairs for a in pair} - seen - {"wall"} - fingers


def test_the_same_box_told_otherwise_is_the_same_box() -> None:
    robot = robots.get("panda")
    quarter = np.sqrt(0.5)
    one = vla_control.Obstacle("box", [0.5, 0.1, 0.2], [0.2, 0.4, 0.1])
    other = vla_control.Obstacle("box", [0.5, 0.1, 0.2], [0.4, 0.2, 0.1], [0, 0, quarter, quarter])
    a = collision.make_monitor(robot, [one], horizon=FAR, margin=0.0)
    b = collision.make_monitor(robot, [other], horizon=FAR, margin=0.0)
    for q in postures("panda", 5):
        first, second = least_by_pair(a, q), least_by_pair(b, q)
        assert first.keys() == second.keys()
        for pair, distance in first.items():
            if distance > 0.0:
                assert second[pair] == pytest.approx(distance, abs=1e-4)


def test_what_touches_at_home_is_named() -> None:
    robot = robots.get("ur5e")
    bold = dataclasses.replace(robot, arm=dataclasses.replace(robot.arm, may_touch=()))
    with pytest.raises(ValueError, match=r"'base_link_inertia' and 'upper_arm_link' are -0\.002"):
        collision.make_monitor(bold)
    raised = vla_control.Obstacle("shelf", [0.4, 0.0, 0.2], [1.0, 1.0, 0.1])
    with pytest.raises(ValueError, match=r"'shelf' are .* apart at home"):
        collision.make_monitor(robot, [raised])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ignored_pairs": [("panda_hand", "lamp")]}, "'lamp' is no link .* valid: panda_hand"),
        ({"obstacles": [vla_control.Obstacle("a", [0, 0, 2], [1, 0, 1])]}, "edges above 0"),
        ({"obstacles": [vla_control.Obstacle("a", [0, 0, 2], None, [0, 0, 0, 2])]}, "quaternion"),
        ({"obstacles": [vla_control.Obstacle("panda_hand", [0, 0, 2], [1, 1, 1])]}, "the name of"),
        ({"package_folders": ["/nowhere"]}, "collision geometry cannot be read"),
        ({"horizon": 0.0}, "horizon 0.0"),
    ],
)
def test_wrong_configuration_is_named(arguments: dict[str, object], message: str) -> None:
    robot = robots.get("panda")
    arguments = {"package_folders": arms.package_folders(), **arguments}
    with pytest.raises(ValueError, match=message):
        vla_control.CollisionMonitor(robot.description(), robot.home_q, **arguments)  # type: ignore[arg-type]
    monitor = collision.make_monitor(robot)
    with pytest.raises(ValueError, match="7 finite joint positions"):
        monitor.compute(np.full(7, np.nan))


def test_a_face_over_a_face_is_known_by_its_corners() -> None:
    """With one pair of points alone the gripper would tip over it, into the plate."""
    robot = robots.get("fr3")
    tool = model_of("fr3").forward_kinematics(robot.home_q)[:3, 3]
    tool[2] += 0.025
    plate = vla_control.Obstacle("plate", tool, [0.4, 0.4, 0.02])
    pair = ("gripper_base", "plate")
    monitor = collision.make_monitor(robot, [plate])

    def near(q: np.ndarray) -> list[vla_control.PairDistance]:
        return [one for one in monitor.compute(q) if monitor.pairs[one.pair] == pair]

    flat = near(robot.home_q)
    assert len(flat) >= 4
    assert {round(one.distance, 4) for one in flat} == {0.02}
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(20):
        dq = rng.normal(size=7)
        dq *= 0.03 / np.linalg.norm(dq)
        found = near(robot.home_q + dq)[0].distance
        told = [one.distance + one.row @ dq for one in flat]
        assert min(told) == pytest.approx(found, abs=3e-4)
        missed.append(told[0] - found)
    assert max(missed) > 1e-3  # the control: one alone


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_an_arm_sent_into_itself_or_the_table_stops_before(robot: str) -> None:
    free = collisions.run(robot, 6, barrier=False)
    assert sum(a.least < 0.0 for a in free) >= 3  # the control collides
    assert not any(a.acted for a in free)
    kept = collisions.run(robot, 6, barrier=True)
    assert all(a.least > 0.0 for a in kept), kept
    assert sum(a.acted for a in kept) >= 3
    assert min(a.moved for a in kept) > 0.1  # it went there


def test_without_a_monitor_a_monitored_arm_does_not_move() -> None:
    """The control is every other test of the simulation, where chunks are followed."""
    robot = robots.get("panda")
    config = robot.controller_config(barrier__distance_braking=collision.BRAKING)
    controller = vla_control.Controller(robot.description(), config)
    controller.activate(robot.home_q, np.zeros(7), 0)
    controller.update(robot.home_q, np.zeros(7), 1_000_000, 1e-3)
    assert controller.state().unmonitored
    pose = model_of("panda").forward_kinematics(robot.home_q)
    chunk = vla_control.Chunk(1_000_000, 0.05, robot.base_frame, robot.tool_frame, [pose] * 4)
    assert controller.push_chunk(chunk) == vla_control.RejectReason.UNMONITORED


def test_a_thread_keeps_a_controller_monitored() -> None:
    robot = robots.get("panda")
    config = robot.controller_config(barrier__distance_braking=collision.BRAKING)
    controller = vla_control.Controller(robot.description(), config)
    monitor = collision.make_monitor(robot, [collision.table()])
    start = time.monotonic_ns()
    controller.activate(robot.home_q, np.zeros(7), start)
    thread = vla_control.CollisionThread(controller, monitor, 200.0)
    deadline = time.monotonic() + 20.0
    monitored = False
    while thread.computed < 40 and time.monotonic() < deadline:
        controller.update(robot.home_q, np.zeros(7), time.monotonic_ns(), 1e-3)
        state = controller.state()
        monitored = monitored or not state.unmonitored
        time.sleep(1e-3)
    assert thread.computed >= 40
    assert start < thread.handed_over_ns <= time.monotonic_ns()
    assert monitored
    expected = collision.make_monitor(robot, [collision.table()]).compute(robot.home_q)
    assert controller.state().smallest_distance == pytest.approx(expected[0].distance, abs=1e-9)
    with pytest.raises(ValueError, match=r"rate .* outside \[20, 1000\]"):
        vla_control.CollisionThread(controller, monitor, 1e4)


def test_periods_of_a_thread_are_told() -> None:
    periods = collisions.hand_over_periods("ur5e", 0.5, busy=1)
    assert len(periods) > 5
    assert periods.min() > 0.0


def test_the_simulation_can_do_without() -> None:
    sim = Simulation(
        "panda", "touch", 0, cameras=(), controller_overrides={"barrier__distance_braking": 0.0}
    )
    sim.advance(0.05)
    state = sim.controller.state()
    assert not state.unmonitored
    assert state.smallest_distance == np.inf
    sim.close()
