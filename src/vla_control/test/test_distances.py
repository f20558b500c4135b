# SPDX-License-Identifier: Apache-2.0
"""The barrier between bodies: distances come from outside the loop; and what if they do not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from arm import HOME, Plant, glide, make_config, moved
from drives import ACCELERATION, Drives, assert_within_limits, motion_config

import vla_control as vc
from vla_control import RejectReason as R

MARGIN = 0.005
BRAKING = 4.0


class Wall:
    """A plane that the tool point may not pass: the simplest distance there is."""

    def __init__(
        self, plant: Plant | Drives, normal: list[float], room: float, rows: int = 1
    ) -> None:
        self.normal = np.array(normal)
        self.rows = rows
        self.offset = self.normal @ plant.pose[:3, 3] - room

    def distance(self, plant: Plant | Drives) -> float:
        return float(self.normal @ plant.pose[:3, 3] - self.offset)

    def push(self, plant: Plant | Drives, **changes: object) -> bool:
        row = self.normal @ plant.kinematics.jacobian(plant.q)[:3]
        arguments: dict[str, object] = {
            "time_ns": plant.time_ns,
            "q": plant.q,
            "distances": np.full(self.rows, self.distance(plant)),
            "rows": np.tile(row, (self.rows, 1)),
        }
        arguments.update(changes)
        return plant.controller.push_distances(**arguments)  # type: ignore[arg-type]


def guarded(**changes: object) -> Plant:
    return Plant(config=make_config(barrier__distance_braking=BRAKING, **changes))


def run(plant: Plant, wall: Wall, seconds: float, every: int = 10) -> list[vc.ControllerState]:
    """Runs with distances every so many cycles; returns the states, ends at the nearest."""
    states = []
    for cycle in range(round(seconds * plant.rate)):
        if cycle % every == 0:
            assert wall.push(plant)
        plant.step()
        states.append(plant.controller.state())
    return states


@pytest.mark.parametrize("rows", [1, 4])
def test_an_arm_thrown_at_a_wall_rests_before_it(rows: int) -> None:
    """Four times the same row is one wall, not a wall four times as stiff."""

    def nearest(plant: Plant) -> float:
        wall = Wall(plant, [1.0, 0.0, 0.0], 0.06, rows)
        jacobian = plant.kinematics.jacobian(plant.q)
        plant.dq = np.linalg.pinv(jacobian) @ np.array([-0.25, 0, 0, 0, 0, 0])
        distances = []
        for _ in range(60):
            run(plant, wall, 0.01)
            distances.append(wall.distance(plant))
        return min(distances)

    soft = {"translational_stiffness": [5.0] * 3, "nullspace_stiffness": 0.0, "damping_ratio": 0.1}
    assert nearest(Plant(config=make_config(**soft))) < 0.0  # the control passes it
    assert nearest(guarded(**soft)) >= MARGIN - 1.5e-3


def test_a_reference_behind_a_wall_is_not_followed_to_it() -> None:
    def nearest(plant: Plant) -> tuple[float, list[vc.ControllerState]]:
        wall = Wall(plant, [0.0, 0.0, 1.0], 0.05)
        wall.push(plant)
        plant.step()
        assert plant.push(glide(plant.pose, [0.0, 0.0, -0.15])) is R.NONE
        states = run(plant, wall, 1.5)
        return wall.distance(plant), states

    passed, states = nearest(Plant())
    assert passed < -0.05  # the control
    assert not any(s.barrier_active for s in states)
    rested, states = nearest(guarded())
    assert rested >= MARGIN - 1e-3
    assert rested < 0.02
    assert any(s.barrier_active for s in states)
    assert states[-1].smallest_distance == pytest.approx(rested, abs=1e-3)
    assert np.abs(states[-1].dq).max() < 0.05


def test_along_a_wall_and_away_from_it_nothing_is_held_up() -> None:
    torques = []
    for plant in (Plant(), guarded()):
        wall = Wall(plant, [0.0, 0.0, 1.0], 0.03)
        wall.push(plant)
        plant.step()
        plant.push(glide(plant.pose, [0.0, 0.10, 0.05]))
        run(plant, wall, 1.0)
        torques.append(plant.tau)
    np.testing.assert_allclose(torques[0], torques[1], atol=1e-9)


def test_between_two_computations_distances_move_with_the_arm() -> None:
    plant = guarded(barrier__distance_stale_s=1.0)
    wall = Wall(plant, [0.0, 0.0, 1.0], 0.10)
    wall.push(plant)
    plant.step()
    plant.push(glide(plant.pose, [0.02, 0.0, -0.05]))
    plant.run(0.9)
    assert wall.distance(plant) < 0.06
    known = plant.controller.state().smallest_distance
    assert known == pytest.approx(wall.distance(plant), abs=5e-3)


def test_without_fresh_distances_the_arm_brakes_to_a_hold() -> None:
    plant = guarded()
    wall = Wall(plant, [0.0, 0.0, 1.0], 1.0)
    wall.push(plant)
    plant.step()
    assert plant.push(glide(plant.pose, [0.2, 0.0, -0.1])) is R.NONE
    states = run(plant, wall, 0.3)
    assert not any(s.unmonitored for s in states)
    assert states[-1].phase is vc.Phase.TRACKING
    silent = plant.run(1.0)
    lost = next(i for i, s in enumerate(silent) if s.unmonitored)
    assert 35 <= lost <= 52  # 50 ms after the last, which was up to 10 ms ago
    assert silent[lost].phase is vc.Phase.BRAKING
    assert silent[-1].phase is vc.Phase.HOLDING
    assert np.abs(plant.dq).max() < 0.02
    assert plant.push(glide(plant.pose, [0.1, 0.0, 0.0])) is R.UNMONITORED
    # They come again: chunks observed since are followed, without a reset.
    run(plant, wall, 0.05)
    assert plant.push(glide(plant.pose, [0.1, 0.0, 0.0])) is R.NONE
    assert run(plant, wall, 0.2)[-1].phase is vc.Phase.TRACKING


def test_old_distances_allow_ever_less_speed() -> None:
    """Near a wall that was far enough while it was known, the arm is slowed down by age alone."""

    def speed_kept(stale: float) -> float:
        plant = guarded(
            barrier__distance_stale_s=stale,
            translational_stiffness=[5.0] * 3,
            nullspace_stiffness=0.0,
            damping_ratio=0.1,
        )
        wall = Wall(plant, [1.0, 0.0, 0.0], 0.15)
        wall.push(plant)
        jacobian = plant.kinematics.jacobian(plant.q)
        plant.dq = np.linalg.pinv(jacobian) @ np.array([-0.25, 0, 0, 0, 0, 0])
        plant.run(0.16)
        return -float((plant.kinematics.jacobian(plant.q) @ plant.dq)[0])

    assert speed_kept(1.0) > 0.15  # the control: the same distances, not stale
    assert speed_kept(0.03) < 0.03


@pytest.mark.parametrize("stamp", [-60_000_000, 200_000_000])
def test_distances_of_another_time_are_not_fresh(stamp: int) -> None:
    plant = guarded()
    plant.time_ns = 1_000_000_000
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    wall = Wall(plant, [0.0, 0.0, 1.0], 1.0)
    wall.push(plant, time_ns=plant.time_ns + stamp)
    plant.step()
    assert plant.controller.state().unmonitored
    wall.push(plant)
    plant.step()
    assert not plant.controller.state().unmonitored


def test_a_new_activation_needs_new_distances() -> None:
    plant = guarded()
    wall = Wall(plant, [0.0, 0.0, 1.0], 1.0)
    wall.push(plant)
    plant.step()
    assert not plant.controller.state().unmonitored
    wall.push(plant)
    plant.controller.activate(plant.q, plant.dq, plant.time_ns)
    plant.step()
    assert plant.controller.state().unmonitored


@pytest.mark.parametrize(
    "changes",
    [
        {"distances": [np.nan]},
        {"rows": np.full((1, 7), np.inf)},
        {"q": np.full(7, np.nan)},
        {"q": np.zeros(6)},
        {"rows": np.zeros((1, 6))},
    ],
)
def test_garbage_is_refused_and_changes_nothing(changes: dict[str, object]) -> None:
    plant = guarded()
    wall = Wall(plant, [0.0, 0.0, 1.0], 0.3)
    assert wall.push(plant)
    assert not wall.push(plant, **changes)
    plant.step()
    state = plant.controller.state()
    assert not state.unmonitored
    assert state.smallest_distance == pytest.approx(0.3, abs=1e-3)


def test_more_than_there_is_room_for_is_an_error() -> None:
    plant = guarded()
    count = vc.MAX_DISTANCES + 1
    with pytest.raises(ValueError, match="at most 16"):
        plant.controller.push_distances(0, HOME, np.ones(count), np.ones((count, 7)))


def test_a_wall_given_up_is_no_fault_and_pushes_nothing_out() -> None:
    """Beyond the margin an arm at rest is left in peace, and free to come back."""
    plant = guarded()
    wall = Wall(plant, [0.0, 0.0, 1.0], -0.01)
    states = run(plant, wall, 0.3)
    assert np.abs(plant.dq).max() < 0.01
    assert not any(s.phase is vc.Phase.FAULT for s in states)
    assert plant.push(glide(plant.pose, [0.0, 0.0, 0.05])) is R.NONE
    run(plant, wall, 1.2)
    assert wall.distance(plant) > 0.03


def test_out_of_range_is_named() -> None:
    for name, value in (("braking", -1.0), ("margin", 0.5), ("fade", 0.0), ("stale_s", 0.0)):
        with pytest.raises(ValueError, match=re.escape(f"barrier.distance_{name} = {value:g}")):
            Plant(config=make_config(**{f"barrier__distance_{name}": value}))


def test_every_phase_is_guarded() -> None:
    """Braking on a stop takes the arm no farther than the wall."""
    plant = guarded()
    wall = Wall(plant, [0.0, 0.0, 1.0], 0.06)
    wall.push(plant)
    plant.step()
    plant.push(np.array([moved(plant.pose, np.array([0, 0, -0.3 * 0.05 * i])) for i in range(16)]))
    run(plant, wall, 0.25)
    plant.controller.stop()
    states = run(plant, wall, 1.0)
    assert states[-1].fault is vc.Fault.STOP_REQUESTED
    assert wall.distance(plant) >= MARGIN - 1e-3


class Commanded(Drives):
    """Drives before a wall, whose distances come every so many cycles."""

    def approach(self, wall: Wall, seconds: float, every: int = 10) -> list[vc.ControllerState]:
        states = []
        for cycle in range(round(seconds / self.period)):
            if cycle % every == 0:
                assert wall.push(self)
            self.step()
            states.append(self.controller.state())
        return states


def commanded(rate: float, **changes: object) -> Commanded:
    config = motion_config(rate=rate, tracking__drive_lag_s=0.01, **changes)
    return Commanded(config, lag=0.01)


@pytest.mark.parametrize("rate", [125.0, 1000.0])
@pytest.mark.parametrize("rows", [1, 4])
def test_commanded_joints_rest_before_a_wall(rate: float, rows: int) -> None:
    jerk = 500.0 * ACCELERATION

    def nearest(**changes: object) -> tuple[float, list[vc.ControllerState]]:
        drives = commanded(rate, **changes)
        if rate > 500.0:
            drives = commanded(rate, tracking__max_jerk=jerk.tolist(), **changes)
        wall = Wall(drives, [0.0, 0.0, 1.0], 0.07, rows)
        wall.push(drives)
        drives.step()
        assert drives.push(glide(drives.pose, [0.0, 0.1, -0.12])) is R.NONE
        start = drives.pose[1, 3]
        states = drives.approach(wall, 2.0, every=max(1, round(0.01 * rate)))
        assert_within_limits(drives.log, drives.period, jerk if rate > 500.0 else None)
        # Along it, but for what the least change of the joints costs.
        assert drives.pose[1, 3] - start > 0.07
        return wall.distance(drives), states

    passed, states = nearest()
    assert passed < -0.04  # the control
    assert not any(s.barrier_active for s in states)
    rested, states = nearest(barrier__distance_braking=BRAKING)
    assert MARGIN - 5e-4 <= rested < MARGIN + 5e-3
    assert any(s.barrier_active for s in states)
    assert states[-1].smallest_distance == pytest.approx(rested, abs=1e-3)
    assert states[-1].phase is vc.Phase.HOLDING


def test_commanded_joints_come_to_rest_without_fresh_distances() -> None:
    drives = commanded(500.0, barrier__distance_braking=BRAKING)
    wall = Wall(drives, [0.0, 0.0, 1.0], 1.0)
    wall.push(drives)
    drives.step()
    assert drives.push(glide(drives.pose, [0.2, 0.0, -0.1])) is R.NONE
    assert drives.approach(wall, 0.3)[-1].phase is vc.Phase.TRACKING
    silent = drives.run(1.0)
    lost = next(i for i, s in enumerate(silent) if s.unmonitored)
    assert silent[lost].phase is vc.Phase.BRAKING
    assert silent[-1].phase is vc.Phase.HOLDING
    assert np.abs(drives.dq).max() < 1e-3
    assert drives.push(glide(drives.pose, [0.1, 0.0, 0.0])) is R.UNMONITORED
    drives.approach(wall, 0.05)
    assert drives.push(glide(drives.pose, [0.1, 0.0, 0.0])) is R.NONE


def test_commanded_joints_far_behind_their_reference_are_a_fault() -> None:
    """The reference goes on behind the wall; it may not run away from the arm."""
    drives = commanded(500.0, barrier__distance_braking=BRAKING, max_position_error=0.05)
    wall = Wall(drives, [0.0, 0.0, 1.0], 0.05)
    wall.push(drives)
    drives.step()
    assert drives.push(glide(drives.pose, [0.0, 0.0, -0.15])) is R.NONE
    states = drives.approach(wall, 2.0)
    assert states[-1].fault is vc.Fault.TRACKING_DEVIATION
    assert wall.distance(drives) >= MARGIN - 5e-4
    assert np.abs(drives.dq).max() < 1e-3
