# SPDX-License-Identifier: Apache-2.0
"""The exercises of the benchmark: what the arm is asked to do, and what of it is measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import vla_control
from vla_sim.control_bench import curves, measures, runs
from vla_sim.control_bench.curves import Curve
from vla_sim.control_bench.hardware import Hardware, Rig
from vla_sim.control_bench.measures import Record
from vla_sim.control_bench.runs import Feed, Gains, Subject
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

# Tool displacement of the point-to-point move, m: mostly sideways, some reach, some height.
STEP_LENGTH = 0.426
STEP_DIRECTION = np.array([0.1, 0.4, 0.1]) / np.linalg.norm([0.1, 0.4, 0.1])


class Exercise(Protocol):
    """Something to do, and how it is judged."""

    @property
    def name(self) -> str:
        """A word for it."""

    @property
    def gains(self) -> Gains:
        """Stiffness of the laws that have one."""

    def surroundings(self, hardware: Hardware) -> Hardware:
        """Return the hardware with what the exercise needs around it."""

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once; ``home`` is the tool's pose at the start."""

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Return figures by name."""


@dataclass(frozen=True)
class Figure8:
    """A figure of eight with a peak speed of 0.35 m/s, in chunks that overlap and come late.

    Attributes:
        laps: How much of it is measured.
        noise_mm: Standard deviation of each coordinate of each waypoint.
        tare: Whether what is held is weighed before.
    """

    laps: float = 1.0
    noise_mm: float = 0.0
    tare: bool = False
    gains: Gains = dataclasses.field(default_factory=Gains)

    @property
    def name(self) -> str:
        """A word for it."""
        return "figure8_noise" if self.noise_mm else "figure8"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """Nothing around it."""
        return hardware

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once."""
        feed = Feed(noise_mm=self.noise_mm, seed=seed, tare=self.tare)
        return runs.run(rig, subject, self.curve(home), feed)

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure errors against the curve itself."""
        found = measures.tracking(record, self.curve(home))
        return {
            f"{self.name}_rms_mm": found.rms_mm,
            f"{self.name}_lag_ms": found.lag_ms,
            f"{self.name}_rotation_rms_deg": found.rotation_rms_deg,
            f"{self.name}_torque_rate_rms": found.torque_rate_rms,
        }

    def curve(self, home: FloatArray) -> Curve:
        """Return the curve."""
        return curves.figure8(home, self.laps)


@dataclass(frozen=True)
class Step:
    """A move over 426 mm in one chunk, with the minimum-jerk profile of 1.2 s."""

    travel: float = 1.2
    watched: float = 3.0
    gains: Gains = dataclasses.field(default_factory=Gains)
    name: str = "step"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """Nothing around it."""
        return hardware

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once, from half the way before the home pose."""
        rig.start_at(self.start(home))
        steps = round(self.travel / curves.STEP_DT) + 1
        feed = Feed(period=None, latency=0.0, steps=steps)
        return runs.run(rig, subject, self.curve(home), feed)

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure where and when it ends."""
        start = self.start(home)
        target = curves.translated(start, STEP_LENGTH * STEP_DIRECTION)
        distance = np.linalg.norm(record.position - target[:3, 3], axis=1)
        along = (record.position - start[:3, 3]) @ STEP_DIRECTION
        outside = np.flatnonzero(distance > 2e-3)
        settled = record.time[outside[-1]] if outside.size else 0.0
        last = slice(-round(0.1 / record.period), None)
        turn = measures.rotation_angle(record.rotation[last], target[:3, :3])
        return {
            "step_final_error_mm": 1e3 * float(distance[last].mean()),
            "step_final_rotation_deg": float(np.degrees(turn.mean())),
            "step_overshoot_percent": 100.0 * max(float(along.max()) / STEP_LENGTH - 1.0, 0.0),
            "step_settled_s": float(settled),
        }

    def start(self, home: FloatArray) -> FloatArray:
        """Return where it begins."""
        return curves.translated(home, -0.5 * STEP_LENGTH * STEP_DIRECTION)

    def curve(self, home: FloatArray) -> Curve:
        """Return the motion."""
        offset = STEP_LENGTH * STEP_DIRECTION
        return curves.point_to_point(self.start(home), offset, self.travel, self.watched)


@dataclass(frozen=True)
class Seam:
    """In the middle of a figure of eight the policy changes its mind by 20 mm and 10 degrees."""

    at: float = 1.2
    watched: float = 1.0
    gains: Gains = dataclasses.field(default_factory=Gains)
    name: str = "seam"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """Nothing around it."""
        return hardware

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once."""
        curve = dataclasses.replace(curves.figure8(home), duration=self.at + self.watched)
        moved = curves.figure8(other_mind(home))
        return runs.run(
            rig, subject, curve, Feed(), see=lambda t: moved if t >= self.at - 1e-6 else curve
        )

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure jerk and torque rate while it goes over to the new chunk."""
        arrival = self.at + curves.LATENCY
        rows = record.within(arrival - 0.01, arrival + 0.7)
        limits = robot.arm.limits
        found = {
            "seam_torque_rate": float(
                np.abs(np.diff(record.columns["tau"][rows], axis=0)).max() / record.period
            )
        }
        if limits.jerk is not None:
            ratio = measures.joint_jerk_ratio(record, rows, limits.jerk)
            found["seam_joint_jerk_over_limit_ratio"] = ratio
        if limits.torque_rate is not None:
            ratio = measures.torque_rate_ratio(record, rows, limits.torque_rate)
            found["seam_torque_rate_over_limit_ratio"] = ratio
        return found


@dataclass(frozen=True)
class Contact:
    """Down onto a rigid plate at 0.2 m/s, and 30 mm further than it allows."""

    height: float = 0.08
    beyond: float = 0.03
    speed: float = 0.2
    watched: float = 3.5
    gains: Gains = dataclasses.field(default_factory=lambda: Gains(translational=400.0))
    name: str = "contact"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """A plate without friction under the tool."""
        return dataclasses.replace(hardware, wall_below=self.height)

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once."""
        curve = curves.approach(
            home, np.array([0.0, 0.0, -1.0]), self.speed, self.height + self.beyond, self.watched
        )
        return runs.run(rig, subject, curve, Feed(period=None, latency=0.0, steps=20, tare=True))

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure the force of the plate, upwards."""
        force = record.columns["force"][:, 2]
        touched = np.flatnonzero(force > 0.0)
        if touched.size == 0:
            raise ValueError(f"{robot.name} never touched the plate")
        end = slice(-round(0.5 / record.period), None)
        steady = float(force[end].mean())
        depth = record.columns["reference_position"][end, 2] - record.position[end, 2]
        spring = -self.gains.translational * float(depth.mean())
        # The spike of a rigid impact has no width of its own: its mean over 10 ms is what is told.
        width = round(0.01 / record.period)
        smooth = np.convolve(force, np.full(width, 1.0 / width), mode="valid")
        late = force[touched[0] + round(0.1 / record.period) :]
        return {
            "contact_steady_error_n": abs(steady - spring),
            "contact_steady_force_n": steady,
            "contact_peak_force_n": float(smooth.max()),
            "contact_late_peak_ratio": float(late.max()) / max(steady, 1e-3),
        }


@dataclass(frozen=True)
class Press:
    """Down onto a rigid plate and 30 mm further than it allows, by an arm that is told positions.

    Attributes:
        speed: m/s.
    """

    speed: float
    height: float = 0.05
    beyond: float = 0.03
    gains: Gains = dataclasses.field(default_factory=lambda: Gains(translational=400.0))

    @property
    def name(self) -> str:
        """A word for it, with the speed in mm/s."""
        return f"press_{round(1e3 * self.speed)}"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """A plate without friction under the tool."""
        return dataclasses.replace(hardware, wall_below=self.height)

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once; a compliant arm takes seconds to come to rest."""
        down, way = np.array([0.0, 0.0, -1.0]), self.height + self.beyond
        curve = curves.approach(home, down, self.speed, way, 6.0)
        return runs.run(rig, subject, curve, Feed(period=None, latency=0.0, steps=40))

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure the force of the plate, upwards."""
        force = record.columns["force"][:, 2]
        width = round(0.01 / record.period)
        smooth = np.convolve(force, np.full(width, 1.0 / width), mode="valid")
        return {
            f"{self.name}_peak_force_n": float(smooth.max()),
            f"{self.name}_end_force_n": float(force[-round(0.5 / record.period) :].mean()),
            f"{self.name}_pressed_s": float(np.sum(force > 1.0)) * record.period,
        }


@dataclass(frozen=True)
class Wipe:
    """Back and forth on a rigid, frictionless plate for 5 s, pressing with 10 N."""

    height: float = 0.02
    force: float = 10.0
    begins: float = 2.0
    watched: float = 7.0
    gains: Gains = dataclasses.field(default_factory=Gains)
    name: str = "wipe"

    def surroundings(self, hardware: Hardware) -> Hardware:
        """A plate under the tool."""
        return dataclasses.replace(hardware, wall_below=self.height)

    def run(self, rig: Rig, subject: Subject, home: FloatArray, seed: int) -> Record:
        """Do it once, after a tare."""
        feed = Feed(tare=True, wrench=(0.0, 0.0, -self.force, 0.0, 0.0, 0.0))
        return runs.run(rig, subject, self.curve(home), feed)

    def measure(self, record: Record, robot: RobotSpec, home: FloatArray) -> dict[str, float]:
        """Measure the force while it wipes."""
        rows = record.within(self.begins, self.watched)
        error = record.columns["force"][rows, 2] - self.force
        return {"wipe_force_rms_n": float(np.sqrt(np.mean(error * error)))}

    def curve(self, home: FloatArray) -> Curve:
        """Return the motion."""
        return curves.wipe(home, self.height, self.begins, self.watched)


def other_mind(home: FloatArray) -> FloatArray:
    """Return the pose 20 mm and 10 degrees away."""
    moved = curves.turned(home, np.array([1.0, 1.0, 1.0]), np.radians(10.0))
    return curves.translated(moved, 0.02 * np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0))


def acceleration_step(robot: RobotSpec) -> float:
    """Return by how much the reference's acceleration differs from one side of a seam to the other.

    The controller is asked in each of the two nanoseconds before the new chunk comes into force and
    in each of the two after, with the arm at rest at home; both sides are continued to the moment
    itself. Linear or angular, whichever is larger, m/s^2 or rad/s^2.
    """
    description = robot.description()
    controller = vla_control.Controller(description, robot.controller_config())
    q, rest = robot.home_q, np.zeros(len(robot.joint_names))
    home = vla_control.RobotModel(description).forward_kinematics(q)
    first, second = curves.figure8(home), curves.figure8(other_mind(home))
    controller.activate(q, rest, 0)
    now, period = 0, round(1e9 / controller.config.rate)
    largest = 0.0
    for number, (curve, seen_at) in enumerate(
        [(first, 0.0), (first, 0.4), (first, 0.8), (second, 1.2), (first, 1.6), (second, 1.7)], 1
    ):
        arrival = round((seen_at + curves.LATENCY) * 1e9)
        while now + period <= arrival:
            now += period
            controller.update(q, rest, now, 1e-9 * period)
        before = _continued(controller, q, now, (1, 2))
        chunk = curves.chunk_of(curve, seen_at, 0, description, sequence=number)
        if controller.push_chunk(chunk) is not vla_control.RejectReason.NONE:
            raise RuntimeError(f"the controller refused a chunk of the seam on {robot.name}")
        # Here it is taken up.
        controller.update(q, rest, now + 3, 1e-9 * period)
        after = _continued(controller, q, now, (5, 4))
        difference = after - before
        if number > 1:
            steps = np.linalg.norm(difference[:3]), np.linalg.norm(difference[3:])
            largest = max(largest, *map(float, steps))
        now += 5
    return largest


def _continued(
    controller: vla_control.Controller, q: FloatArray, now: int, offsets: tuple[int, int]
) -> FloatArray:
    """Return the reference's acceleration at now + 3 ns, continued from two times beside it.

    Args:
        controller: Updated at both times, the earlier first.
        q: Joint positions.
        now: ns.
        offsets: The farther and the nearer time, ns after ``now``.
    """
    found = {}
    for offset in sorted(offsets):
        controller.update(q, np.zeros(len(q)), now + offset, 1.0 / controller.config.rate)
        found[offset] = np.array(controller.state().reference_acceleration_tool_in_base)
    far, near = offsets
    return np.asarray(2.0 * found[near] - found[far])
