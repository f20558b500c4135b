# SPDX-License-Identifier: Apache-2.0
"""Changes of hands between a policy and an operator's device, in lockstep.

The policy goes back from where it sees the tool to its figure of eight, a moment ago; the device
says twists. Both reach the controller as the supervisor lets them: under a new grant at each
change. What must not jump is looked at in every cycle around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import vla_control
from vla_sim._core import Loop
from vla_sim.control_bench import curves, runs, table
from vla_sim.control_bench.hardware import ModelError, Rig
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

SITUATIONS = ("free", "contact", "payload", "moving")
STIFFNESS = 400.0  # N/m
PRESS = 0.025  # m that the policy wants to be below the plate: 10 N
DESCENT = 0.05  # m/s
RETURN = 2.0  # s in which the policy goes back to its curve
PLATE = 0.05  # m below the tool's start
SPEED = 0.1  # m/s of the device
BEFORE, AFTER = 0.005, 0.3  # s around a change
CALM = 0.3  # s at least after a change until its motion is compared with
COMMAND_PERIOD = 0.02  # s between two commands of the device, and between two heartbeats
COMMAND_LASTS = 0.1  # s


class Handover:
    """One arm that two sources take turns to move.

    Args:
        robot: The arm; it has to take torques.
        situation: One of ``SITUATIONS``.
        seed: Of the model's errors and of when and how hands change.
        gently: Whether the controller is told who follows; for positive controls.
    """

    def __init__(self, robot: RobotSpec, situation: str, seed: int, *, gently: bool = True) -> None:
        if situation not in SITUATIONS:
            raise ValueError(f"unknown situation {situation!r}; valid: {', '.join(SITUATIONS)}")
        self._situation = situation
        self._rng = np.random.default_rng([seed, SITUATIONS.index(situation)])
        hardware = table.hardware_of(robot, "payload" if situation == "payload" else "")
        if situation == "contact":
            hardware = dataclasses.replace(hardware, wall_below=PLATE)
        rate = robot.arm.drives.control_rate
        rig = self._rig = Rig(robot, hardware, rate)
        rig.draw(seed, ModelError())
        settings: dict[str, Any] = {"chunk__accept_twists": True, "heartbeat_timeout_s": 0.1}
        gains = runs.Gains(translational=STIFFNESS)
        self.controller = vla_control.Controller(
            robot.description(), runs.controller_config(rig, rate, gains, **settings)
        )
        self._description = robot.description()
        self._home = table.home_pose(robot)
        self._loop = Loop(rig.plant, self.controller)
        self._cycle = 0
        self._grant = 1
        self._gently = gently
        self._operator = False
        self._sequence = 0
        self._origin = 0.0  # s, when the policy's curve began
        self._seen = self._home[:3, 3]  # where the policy saw the tool when it was granted the arm
        self._next_seen = 0.0
        self._coming: list[tuple[float, vla_control.Chunk]] = []
        self._phase = self._rng.uniform(0.0, 2.0 * np.pi, 3)
        self.rejected = 0
        rig.lay()
        self._loop.reset(0)

    @property
    def now(self) -> float:
        """Of the controller's clock, s."""
        return self._cycle * self._rig.plant_period

    def run(self, duration: float, see: Callable[[Any], None] | None = None) -> None:
        """Run on; ``see`` is given the controller's state of every cycle."""
        end = self._cycle + round(duration / self._rig.plant_period)
        beat = round(COMMAND_PERIOD / self._rig.plant_period)
        while self._cycle < end:
            if self._cycle % beat == 0:
                self._beat()
                self._feed()
            step = 1 if see is not None else min(beat - self._cycle % beat, end - self._cycle)
            self._loop.advance(step)
            self._cycle += step
            if see is not None:
                see(self.controller.state())

    def change_hands(self) -> None:
        """The other source is granted the arm from now on."""
        self._grant += 1
        self._sequence = 0
        self._operator = not self._operator
        self._coming.clear()
        self._beat()
        if not self._operator:
            # The policy sees the tool where it is, not where it was told to be; but it goes on to
            # press on what it presses on.
            state = self.controller.state()
            self._seen = np.array(state.pose_tool_in_base)[:3, 3]
            if self._situation == "contact":
                self._seen[2] = state.reference_pose_tool_in_base[2, 3]
            self._origin = self._next_seen = self.now
        elif self._situation != "moving":
            self._phase = np.zeros(3)  # the hand begins at rest
            self._origin = self.now

    def _beat(self) -> None:
        owner = vla_control.Owner.OPERATOR if self._operator else vla_control.Owner.POLICY
        self.controller.heartbeat(
            1, self._grant, round(self.now * 1e9), owner if self._gently else vla_control.Owner.NONE
        )

    def _feed(self) -> None:
        if self._operator:
            self._push(self._twist_chunk())
            return
        if self.now >= self._next_seen - 1e-9:
            self._next_seen += curves.CHUNK_PERIOD
            self._coming.append((self.now + curves.LATENCY, self._policy_chunk()))
        while self._coming and self._coming[0][0] <= self.now + 1e-9:
            self._push(self._coming.pop(0)[1])

    def _push(self, chunk: vla_control.Chunk) -> None:
        self.rejected += self.controller.push_chunk(chunk) is not vla_control.RejectReason.NONE

    def _numbers(self) -> dict[str, Any]:
        self._sequence += 1
        return {
            "stamp_ns": round(self.now * 1e9),
            "base_frame": self._description.base_frame,
            "tool_frame": self._description.tool_frame,
            "boot_id": 1,
            "grant": self._grant,
            "sequence": self._sequence,
        }

    def _twist_chunk(self) -> vla_control.Chunk:
        t = self.now - (self._origin if self._situation != "moving" else 0.0)
        twist = np.zeros(6)
        twist[:3] = SPEED * np.sin((1.7, 2.3, 1.1) * np.array(t) + self._phase) / np.sqrt(3.0)
        if self._situation == "contact":
            twist[2] = 0.0
        return vla_control.Chunk(
            step_dt=COMMAND_LASTS,
            mode=vla_control.ChunkMode.TWIST,
            twists=twist[None],
            **self._numbers(),
        )

    def _policy_chunk(self) -> vla_control.Chunk:
        curve = curves.figure8(self._home)
        start = self.now - self._origin
        times = np.asarray(start + curves.STEP_DT * np.arange(curves.CHUNK_STEPS), np.float64)
        poses = curve.poses(times)
        back = np.clip(times / RETURN, 0.0, 1.0)  # to where the task is, along a smoothstep
        away = 1.0 - back**3 * (10.0 - back * (15.0 - 6.0 * back))
        poses[:, :3, 3] += away[:, None] * (self._seen - self._home[:3, 3])
        if self._situation == "contact":
            lowest = self._home[2, 3] - PLATE - PRESS
            poses[:, 2, 3] = np.maximum(lowest, self._seen[2] - DESCENT * times)
        return vla_control.Chunk(step_dt=curves.STEP_DT, poses=poses, **self._numbers())


class Watch:
    """What jumps from one cycle to the next.

    A step of the reference is what its own velocity, and of its velocity what its own acceleration,
    does not explain.
    """

    def __init__(self, period: float) -> None:
        self.largest = {"reference_m": 0.0, "velocity_m_s": 0.0, "wrench_n": 0.0}
        self.torque_rates: list[FloatArray] = []
        self._period = period
        self._last: tuple[FloatArray, ...] | None = None

    def begin(self) -> None:
        """What comes is not next to what was seen before."""
        self._last = None

    def see(self, state: Any) -> None:
        """Take the state of a cycle."""
        now = (
            np.array(state.reference_pose_tool_in_base)[:3, 3],
            np.array(state.reference_twist_tool_in_base)[:3],
            np.array(state.reference_acceleration_tool_in_base)[:3],
            np.array(state.wrench_command)[:3],
            np.array(state.tau_command),
        )
        if self._last is not None:
            (p0, v0, a0, w0, tau0), (p1, v1, a1, w1, tau1) = self._last, now
            found = {
                "reference_m": p1 - p0 - 0.5 * self._period * (v0 + v1),
                "velocity_m_s": v1 - v0 - 0.5 * self._period * (a0 + a1),
                "wrench_n": w1 - w0,
            }
            for name, step in found.items():
                self.largest[name] = max(self.largest[name], float(np.linalg.norm(step)))
            self.torque_rates.append((tau1 - tau0) / self._period)
        self._last = now

    @property
    def torque_rate(self) -> float:
        """Root mean square over joints and cycles, Nm/s."""
        return float(np.sqrt(np.mean(np.square(self.torque_rates))))


def measure(
    robot: RobotSpec,
    situation: str,
    changes: int,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
    *,
    gently: bool = True,
) -> dict[str, float]:
    """Change hands so often, at random times, and say what jumped."""
    run = Handover(robot, situation, seed, gently=gently)
    rng = np.random.default_rng(seed + 1)
    watch, calm = Watch(run._rig.plant_period), Watch(run._rig.plant_period)
    run.run(3.0)
    for _ in range(changes):
        run.run(float(rng.uniform(0.4, 2.0)))
        run.run(CALM)
        calm.begin()
        run.run(BEFORE + AFTER, calm.see)  # undisturbed motion, for comparison
        watch.begin()
        run.run(BEFORE, watch.see)
        run.change_hands()
        run.run(AFTER, watch.see)
        progress()
    return {
        "reference_step_max_mm": 1e3 * watch.largest["reference_m"],
        "reference_velocity_step_max_mm_s": 1e3 * watch.largest["velocity_m_s"],
        "wrench_step_max_n": watch.largest["wrench_n"],
        "wrench_step_max_n_undisturbed": calm.largest["wrench_n"],
        "torque_rate_ratio": watch.torque_rate / calm.torque_rate,
        "rejected_chunks": float(run.rejected),
    }
