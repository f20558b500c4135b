# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmark: which law, on which hardware, at which exercise, measured how.

Every row is run on the same draws of model errors; a figure is the median over the draws, with
``_worst`` the worst of them. Suffixes follow the name in this order: arm (``_ur5e``), law
(``_baseline``, ``_baseline_preview``), hardware (``_friction_b`` ...), ``_worst``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

import vla_control
from vla_sim import position_drives
from vla_sim.control_bench import exercises, runs
from vla_sim.control_bench.exercises import Exercise
from vla_sim.control_bench.hardware import Hardware, ModelError, Rig
from vla_sim.control_bench.runs import Gains, Subject
from vla_sim.control_bench.tracking import Tracking
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

# Arms that take torques, and one that is told positions.
ROBOTS = ("panda", "ur5e")
POSITION_ROBOT = "ur5"
# Rate at which the drives of such an arm close their own loop, Hz.
_DRIVE_RATE = 1000.0
# Rotor inertia of the headline, kg m^2.
_ROTOR = 0.1

Law = Callable[[Rig, float, Gains], Subject]


def ours(rig: Rig, rate: float, gains: Gains) -> Subject:
    """Return the controller with the output that the arm's drives take."""
    if position_drives.required(rig.robot.arm):
        return Tracking(rig, gains)
    return runs.ours(rig, rate, gains)


LAWS: dict[str, Law] = {
    "": ours,
    "baseline": runs.peer_with_poses,
    "baseline_preview": runs.peer_with_preview,
    "position_loop": runs.position_loop,
}


@dataclass(frozen=True)
class Row:
    """One law at one exercise on one kind of hardware.

    Attributes:
        exercise: What is done, and what of it is measured.
        law: Key of ``LAWS``.
        hardware: Name of the hardware, empty = the headline.
    """

    exercise: Exercise
    law: str = ""
    hardware: str = ""


@dataclass
class Results:
    """Figures so far.

    Attributes:
        figures: Name to number.
        unstable: Rows and draws of the controller in which a joint was faster than twice its limit.
        rejected: Chunks that a controller did not take, over all runs.
    """

    figures: dict[str, float] = field(default_factory=dict)
    unstable: list[str] = field(default_factory=list)
    rejected: int = 0

    def add(self, row: Row, robot: str, measured: list[dict[str, float]]) -> None:
        """Add median and worst of a row's draws."""
        suffix = suffix_of(robot) + "".join(f"_{part}" for part in (row.law, row.hardware) if part)
        for name in measured[0]:
            values = np.array([draw[name] for draw in measured])
            self.figures[f"{name}{suffix}"] = float(np.median(values))
            self.figures[f"{name}{suffix}_worst"] = float(values[np.argmax(np.abs(values))])


def hardware_of(robot: RobotSpec, name: str = "") -> Hardware:
    """Return the hardware of a row by name, the headline's for an empty one."""
    n = len(robot.joint_names)
    drives = robot.arm.drives
    headline = Hardware(
        coulomb=drives.coulomb_friction,
        viscous=drives.viscous_friction,
        armature=np.full(n, _ROTOR),
    )
    changed: dict[str, dict[str, FloatArray | float | int | bool]] = {
        "": {},
        "friction_b": {"coulomb": np.full(n, 0.5), "viscous": np.full(n, 2.0)},
        "no_rotor": {"armature": np.zeros(n)},
        "delay_0": {"delay_cycles": 0},
        "delay_2": {"delay_cycles": 2},
        "delay_3": {"delay_cycles": 3},
        "gravity_by_controller": {"gravity_compensation": False},
        "plate_friction": {"wall_friction": 0.3},
        "payload": {"payload": 0.5},
        "payload_tared": {"payload": 0.5},
        "force_sensor": {"force_sensor": True},
    }
    if name not in changed:
        raise ValueError(f"unknown hardware {name!r}; valid: {', '.join(filter(None, changed))}")
    return dataclasses.replace(headline, **changed[name])  # type: ignore[arg-type]


# Of an arm that is told positions, onto a plate, m/s.
PRESS_SPEEDS = (0.05, 0.1, 0.2)
HARDWARE = (
    "friction_b",
    "no_rotor",
    "delay_0",
    "delay_2",
    "delay_3",
    "gravity_by_controller",
    "payload",
)


def rows(robot: RobotSpec, quick: bool) -> Iterator[Row]:
    """Yield the rows of a robot's table; with ``quick`` only the most telling ones."""
    figure8 = exercises.Figure8(laps=0.25 if quick else 1.0)
    yield Row(figure8)
    if position_drives.required(robot.arm):
        yield Row(exercises.Step())
        for speed in () if quick else PRESS_SPEEDS:
            yield Row(exercises.Press(speed))
            yield Row(exercises.Press(speed), hardware="force_sensor")
        return
    yield Row(figure8, "baseline")
    if quick:
        yield Row(exercises.Step())
        return
    yield Row(figure8, "baseline_preview")
    noisy = exercises.Figure8(noise_mm=2.0)
    for law in ("", "baseline", "baseline_preview"):
        yield Row(noisy, law)
    for law in ("", "baseline", "baseline_preview"):
        yield Row(exercises.Step(), law)
    yield Row(exercises.Seam())
    yield Row(exercises.Contact())
    yield Row(exercises.Contact(), "position_loop")
    yield Row(exercises.Wipe())
    yield Row(exercises.Wipe(), hardware="plate_friction")
    for hardware in HARDWARE:
        yield Row(figure8, hardware=hardware)
    yield Row(exercises.Figure8(tare=True), hardware="payload_tared")


def run_row(robot: RobotSpec, row: Row, count: int, results: Results) -> None:
    """Run one row on every draw and add its figures."""
    positions = position_drives.required(robot.arm)
    rate = _DRIVE_RATE if positions else robot.arm.drives.control_rate
    hardware = row.exercise.surroundings(hardware_of(robot, row.hardware))
    rig = Rig(robot, hardware, rate)
    home = home_pose(robot)
    measured = []
    for seed in range(count):
        rig.draw(seed, ModelError())
        subject = LAWS[row.law](rig, rate, row.exercise.gains)
        record = row.exercise.run(rig, subject, home, seed)
        results.rejected += record.rejected
        speed = np.abs(record.columns["dq"]).max(axis=0) / robot.arm.limits.velocity
        # Written so that NaN counts, too.
        if row.law == "" and not np.all(speed < 2.0):
            results.unstable.append(f"{robot.name} {row.exercise.name} {row.hardware} {seed}")
        measured.append(row.exercise.measure(record, robot, home))
    results.add(row, robot.name, measured)


def run_table(
    chosen: Sequence[RobotSpec],
    *,
    quick: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Results:
    """Run all rows.

    Args:
        chosen: Robots.
        quick: Two draws of the most telling rows.
        progress: Called before each row with a few words about it.
    """
    results = Results()
    for robot in chosen:
        for row in rows(robot, quick):
            words = (robot.name, row.exercise.name, row.law, row.hardware)
            progress(" ".join(filter(None, words)))
            run_row(robot, row, draws(quick), results)
        if not quick and not position_drives.required(robot.arm):
            step = exercises.acceleration_step(robot)
            results.figures[f"seam_acceleration_step{suffix_of(robot.name)}"] = step
    return results


def suffix_of(robot: str) -> str:
    """Return what ends the names of a robot's figures."""
    return "" if robot == ROBOTS[0] else f"_{robot}"


def draws(quick: bool) -> int:
    """Return how many draws of model errors each row is run on."""
    return 2 if quick else 20


def home_pose(robot: RobotSpec) -> FloatArray:
    """Return the pose of the tool at home."""
    model = vla_control.RobotModel(robot.description())
    return np.asarray(model.forward_kinematics(robot.home_q))


def count_rows(chosen: Sequence[RobotSpec], quick: bool) -> int:
    """Return how many rows ``run_table`` will run."""
    return sum(1 for robot in chosen for _ in rows(robot, quick))
