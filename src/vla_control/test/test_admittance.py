# SPDX-License-Identifier: Apache-2.0
"""Admittance: motion output that gives way to a force sensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from arm import glide, make_description, moved
from drives import Drives, assert_within_limits, motion_config

import vla_control as vc
from vla_control import Fault, Phase
from vla_control import RejectReason as R

GRAVITY = np.array([0.0, 0.0, -9.81])
OFFSET = np.array([3.0, -2.0, 5.0, 0.1, 0.2, -0.1])  # of the sensor, in its frame
LAG = 0.02


def compliant_config(**changes: object) -> vc.ControllerConfig:
    """Sensor in link7, tool and payload known, drives as late as those of the tests."""
    defaults: dict[str, object] = {
        "admittance__sensor_frame": "link7",
        "admittance__mass": 20.0,
        "admittance__inertia": 0.3,
        "tracking__drive_lag_s": LAG,
        "translational_stiffness": [400.0, 400.0, 400.0],
        "rotational_stiffness": [20.0, 20.0, 20.0],
        "payload": vc.Payload(0.8, [0.0, 0.01, 0.03]),
    }
    return motion_config(**{**defaults, **changes})


@dataclass
class Touching(Drives):
    """An arm with a sensor, above a wall."""

    config: vc.ControllerConfig = field(default_factory=compliant_config)
    lag: float = LAG
    wall: float = -10.0  # m, height of its face in the base frame
    stiffness: float = 10000.0  # N/m, of the wall
    extra: np.ndarray = field(default_factory=lambda: np.zeros(6))  # at the tool, base axes
    noise: float = 0.05  # N and 0.01 times that in Nm
    dead: str = ""

    def __post_init__(self) -> None:
        """Lets the sensor measure before the activation."""
        self.rng = np.random.default_rng(3)
        sensor = make_description()
        sensor.tool_frame = "link7"
        self.sensor = vc.RobotModel(sensor)
        self.kinematics = vc.RobotModel(self.description)
        self.wrench = self.sense()
        super().__post_init__()

    def force(self) -> np.ndarray:
        """N, Nm of the surroundings on the tool, at the tool, base axes."""
        out = self.extra.copy()
        out[2] += self.stiffness * max(0.0, self.wall - self.pose[2, 3])
        return out

    def sense(self) -> np.ndarray:
        """What the sensor reports."""
        tool, sensor = self.pose, self.sensor.forward_kinematics(self.q)
        wrench = self.force()
        wrench[:3] += 0.8 * GRAVITY
        wrench[3:] += np.cross(tool[:3, :3] @ [0.0, 0.01, 0.03], 0.8 * GRAVITY)
        moment = wrench[3:] - np.cross(sensor[:3, 3] - tool[:3, 3], wrench[:3])
        R_sensor = sensor[:3, :3]
        clean = np.concatenate((R_sensor.T @ wrench[:3], R_sensor.T @ moment)) + OFFSET
        scale = self.noise * np.array([1.0, 1.0, 1.0, 0.01, 0.01, 0.01])
        return np.asarray(clean + scale * self.rng.normal(size=6))

    def step(self, *args: object, **changes: object) -> None:
        """Measures first."""
        if self.dead == "nan":
            self.wrench = np.full(6, np.nan)
        elif self.dead == "silent":
            self.wrench = None
        elif self.dead != "stuck":
            self.wrench = self.sense()
        super().step(*args, **changes)  # type: ignore[arg-type]

    def press(self, depth: float, seconds: float = 3.0) -> list[vc.ControllerState]:
        """A slow move down, `depth` into the wall."""
        start = self.tool
        down = start[2, 3] - self.wall + depth
        assert self.push(glide(start, [0.0, 0.0, -down], steps=24), step_dt=0.08) is R.NONE
        return self.run(seconds)


def test_at_rest_it_feels_nothing_and_stays() -> None:
    arm = Touching()
    start = arm.pose
    states = arm.run(1.0)
    assert states[-1].compliant
    assert states[-1].tares == 1
    assert np.abs(states[-1].external_wrench).max() < 0.1
    np.testing.assert_allclose(arm.pose, start, atol=2e-3)
    assert_within_limits(arm.log, arm.period)


def test_the_payload_is_weighed_wherever_the_tool_turns() -> None:
    arm = Touching()
    arm.run(0.4)
    assert arm.push(glide(arm.tool, [0.0, 0.0, 0.0], [0.6, 0.3, 0.0])) is R.NONE
    states = arm.run(1.5)
    assert np.abs(states[-1].external_wrench).max() < 0.2
    # The control: of a payload of which it was not told it feels the weight that has moved.
    arm = Touching(compliant_config(payload=vc.Payload()))
    arm.run(0.4)
    arm.push(glide(arm.tool, [0.0, 0.0, 0.0], [0.6, 0.3, 0.0]))
    states = arm.run(1.5)
    assert np.abs(states[-1].external_wrench).max() > 1.0


def test_a_push_moves_it_by_force_over_stiffness() -> None:
    arm = Touching(compliant_config(admittance__contact_stiffness=2000.0))
    start = arm.pose
    arm.run(0.4)
    arm.extra[:3] = [8.0, 0.0, 0.0]
    arm.run(6.0)
    np.testing.assert_allclose(arm.pose[:3, 3] - start[:3, 3], [8.0 / 400.0, 0, 0], atol=5e-4)
    np.testing.assert_allclose(arm.pose[:3, :3], start[:3, :3], atol=2e-3)
    arm.extra[:3] = 0.0
    arm.run(6.0)
    np.testing.assert_allclose(arm.pose, start, atol=5e-4)
    assert_within_limits(arm.log, arm.period)


def test_neither_a_moment_nor_a_turn_swings_the_tool_point() -> None:
    arm = Touching()
    start = arm.pose
    arm.run(0.4)
    arm.extra[3:] = [1.0, 0.0, 0.0]
    arm.run(5.0)
    turn = vc.so3_log(arm.pose[:3, :3] @ start[:3, :3].T)
    np.testing.assert_allclose(turn, [1.0 / 20.0, 0.0, 0.0], atol=3e-3)
    np.testing.assert_allclose(arm.pose[:3, 3], start[:3, 3], atol=5e-4)
    # The control: 0.1 m beside the tool point the same turn is a swing.
    beside = start[:3, :3].T @ [0.0, 0.1, 0.0]
    assert np.linalg.norm((arm.pose - start)[:3] @ [*beside, 1.0]) > 4e-3
    assert arm.push(glide(start, [0.0, 0.0, 0.0], [0.0, 0.0, 0.8])) is R.NONE
    ways = [arm.pose[:3, 3] for _ in range(400) if arm.step() is None]
    assert np.linalg.norm(np.array(ways) - start[:3, 3], axis=1).max() < 2e-3


def test_it_presses_with_stiffness_times_depth() -> None:
    arm = Touching(wall=0.0)
    arm.wall = arm.pose[2, 3] - 0.05
    arm.run(0.4)
    depth = 0.03
    states = arm.press(depth, 8.0)
    force = states[-1].external_wrench[2]
    series = 1.0 / (1.0 / 400.0 + 1.0 / arm.stiffness)
    assert force == pytest.approx(series * depth, abs=0.3)
    # It comes to rest: no limit cycle against the stiffest surroundings declared.
    late = np.array([s.external_wrench[2] for s in states[-500:]])
    assert np.ptp(late) < 0.5
    assert states[-1].in_contact
    assert_within_limits(arm.log, arm.period)


def test_the_tare_of_the_activation_is_not_taken_up_again_in_contact() -> None:
    arm = Touching(wall=0.0)
    arm.wall = arm.pose[2, 3] - 0.05
    states = arm.press(0.03, 8.0)  # at once: there was no time for it
    assert states[-1].tares == 0
    assert states[-1].external_wrench[2] == pytest.approx(arm.force()[2], abs=0.5)
    assert arm.force()[2] == pytest.approx(400.0 * 0.03, abs=0.6)


def test_without_a_sensor_the_same_move_presses_as_hard_as_the_wall_is() -> None:
    arm = Touching(motion_config(tracking__drive_lag_s=LAG), wall=0.0)
    arm.wall = arm.pose[2, 3] - 0.05
    states = arm.press(0.03, 8.0)
    assert not states[-1].compliant
    assert arm.force()[2] == pytest.approx(arm.stiffness * 0.03, rel=0.02)
    assert not states[-1].in_contact  # it cannot know


def contact_ripple(mass: float, late: float) -> float:
    """N of ripple against a wall of 10 kN/m, three seconds after the impact."""
    config = compliant_config(admittance__mass=mass, tracking__max_deviation=[0.2] * 7)
    arm = Touching(config, lag=0.0, late=late, wall=0.0)
    arm.wall = arm.pose[2, 3] - 0.02
    arm.run(0.4)
    states = arm.press(0.01, 6.0)
    return float(np.ptp([s.external_wrench[2] for s in states[-500:]]))


def test_the_least_mass_is_what_makes_contact_stable() -> None:
    with pytest.raises(ValueError, match=r"admittance.mass = 1 is too light .* at least 8.5"):
        vc.Controller(make_description(), compliant_config(admittance__mass=1.0))
    assert contact_ripple(8.7, LAG) < 0.2
    # Beyond the margin of 45 degrees, which is used up at 67 ms, it hops.
    assert contact_ripple(8.7, 3 * LAG) < 0.2
    assert contact_ripple(8.7, 5 * LAG) > 5.0


def test_a_force_along_an_axis() -> None:
    arm = Touching(
        compliant_config(force__axes=[False, False, True, False, False, False]), wall=0.0
    )
    arm.wall = arm.pose[2, 3] - 0.005
    arm.run(0.4)
    start = arm.tool
    for _ in range(8):
        poses = np.repeat(start[None], 16, axis=0)
        wrenches = np.tile([0.0, 0.0, -10.0, 0.0, 0.0, 0.0], (16, 1))
        assert arm.push(poses, wrenches=wrenches) is R.NONE
        states = arm.run(0.6)
    assert states[-1].external_wrench[2] == pytest.approx(10.0, abs=0.3)
    np.testing.assert_allclose(arm.pose[:2, 3], start[:2, 3], atol=1e-3)
    states = arm.run(4.0)  # runs out: the spring takes it back
    assert abs(states[-1].external_wrench[2]) < 0.5


@pytest.mark.parametrize("dead", ["nan", "silent", "stuck"])
def test_a_dead_sensor_freezes_what_was_given_way_to(dead: str) -> None:
    arm = Touching()
    arm.run(0.4)
    arm.extra[:3] = [8.0, 0.0, 0.0]
    arm.run(2.0)
    start = arm.pose
    assert arm.push(moved_chunk(start)) is R.NONE
    arm.run(0.3)
    assert arm.controller.state().phase is Phase.TRACKING  # the control: it lives
    arm.dead = dead
    arm.run(0.25)
    state = arm.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.FORCE_SENSOR)
    assert not state.compliant
    arm.run(0.5)
    place = arm.tool
    arm.extra[:3] = [-30.0, 0.0, 0.0]
    arm.run(1.0)
    np.testing.assert_allclose(arm.tool, place, atol=1e-9)
    arm.controller.reset()
    arm.run(0.1)
    assert arm.controller.state().phase is Phase.FAULT  # it is still dead
    arm.dead = ""
    arm.extra[:3] = [8.0, 0.0, 0.0]
    arm.run(0.1)
    state = arm.controller.state()
    assert state.phase is Phase.HOLDING
    assert state.compliant
    np.testing.assert_allclose(arm.tool, place, atol=3e-3)
    assert_within_limits(arm.log, arm.period)


def moved_chunk(start: np.ndarray) -> np.ndarray:
    return glide(start, [0.0, 0.1, 0.0], [0.0, 0.2, 0.0])


def test_too_much_of_a_force_stops_it_and_it_still_gives_way() -> None:
    arm = Touching(compliant_config(admittance__max_force=30.0))
    arm.run(0.4)
    arm.extra[:3] = [25.0, 0.0, 0.0]
    arm.run(0.2)
    assert arm.controller.state().phase is Phase.HOLDING  # the control
    arm.extra[:3] = [35.0, 0.0, 0.0]
    arm.run(0.2)
    state = arm.controller.state()
    assert (state.phase, state.fault) == (Phase.FAULT, Fault.CONTACT_FORCE)
    before = arm.pose[0, 3]
    arm.run(0.5)
    assert arm.pose[0, 3] > before + 0.005
    assert_within_limits(arm.log, arm.period)


def test_giving_way_is_bounded() -> None:
    arm = Touching(compliant_config(admittance__max_offset=0.03, admittance__max_velocity=0.02))
    start = arm.pose
    arm.run(0.4)
    arm.extra[:3] = [60.0, 0.0, 0.0]
    states = arm.run(4.0)
    way = np.array([s.pose_tool_in_base[0, 3] for s in states]) - start[0, 3]
    assert 0.0299 < way[-1] < 0.0301
    assert np.abs(np.diff(way)).max() / arm.period < 0.021
    arm = Touching(compliant_config(workspace_max=[float(start[0, 3] + 0.01), 2.0, 2.0]))
    arm.run(0.4)
    arm.extra[:3] = [60.0, 0.0, 0.0]
    arm.run(4.0)
    assert arm.pose[0, 3] < start[0, 3] + 0.0101


def test_what_a_sensor_needs_is_said() -> None:
    def fails(match: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=match):
            vc.Controller(make_description(), compliant_config(**changes))

    fails(
        "admittance.sensor_frame 'nose': .* its frames are: .*link7",
        admittance__sensor_frame="nose",
    )
    fails("moves it against the tool frame", admittance__sensor_frame="link5")
    fails("admittance.filter_s = 0 is outside", admittance__filter_s=0.0)
    controller = vc.Controller(make_description(), compliant_config())
    for wrench in (None, np.full(6, np.nan)):
        with pytest.raises(ValueError, match="FORCE_SENSOR_MISSING"):
            controller.activate(np.array(Touching().q), np.zeros(7), 0, wrench=wrench)


def test_a_new_stiffness_is_ramped() -> None:
    arm = Touching()
    start = arm.pose
    arm.run(0.4)
    arm.extra[:3] = [8.0, 0.0, 0.0]
    arm.run(5.0)
    gains = vc.TaskGains(np.diag([800.0, 800.0, 800.0, 20.0, 20.0, 20.0]))
    assert arm.controller.set_gains(gains)
    arm.run(5.0)
    assert arm.pose[0, 3] - start[0, 3] == pytest.approx(0.01, abs=5e-4)
    np.testing.assert_allclose(moved(start, np.zeros(3))[:3, :3], arm.pose[:3, :3], atol=3e-3)
