# SPDX-License-Identifier: Apache-2.0
"""Random chunks, owners, clocks and faults in lockstep, with a watch over every cycle.

What is done to the controller is drawn here; what must hold of it is checked in C++
(``vla_sim._core.Audit``), against limits that are stated apart from the controller's configuration.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

import vla_control
from vla_sim._core import Audit, AuditLimits, Loop
from vla_sim.control_bench import runs, table
from vla_sim.control_bench.hardware import ModelError, Rig
from vla_sim.control_bench.soak_chunks import ChunkSource
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

# Half width of the workspace box around the tool's home, m.
_REACH = 0.35
# Height of the tool's home over the plate, m.
_PLATE = 0.25
TANK_CAPACITY = 4.0  # J
TANK_REFILL = 4.0  # W
_FORCE, _MOMENT = 60.0, 12.0  # N, Nm; cap of the task law's wrench
# Torque rate where the maker publishes none, Nm/s; braking may be this much faster.
_TORQUE_RATE = 1000.0
_BRAKING_FACTOR = 10.0
# What the plant's energy may exceed the tank's capacity by: the torque acts a cycle after it was
# booked, and falls no faster than its rate is allowed to. J
ENERGY_TOLERANCE = 0.2
# In FAULT the arm stands still after that long: the reference brakes, then the joints are held. s
REST_S = 1.5
# The tool of an arm that is left to itself goes no farther beyond the workspace's faces, m.
WORKSPACE_BEYOND = 0.01

# Mean time between two events of a kind, s.
_EVERY = {
    "chunk": 0.25,
    "grant": 8.0,
    "restart": 30.0,
    "silence": 20.0,
    "stop": 15.0,
    "reset": 0.4,
    "revoke": 10.0,
    "tare": 20.0,
    "payload": 25.0,
    "gains": 10.0,
    "blind": 10.0,
    "freeze": 15.0,
    "clock": 30.0,
    "push": 6.0,
    "object": 20.0,
    "switch_off": 60.0,
}


def limits_of(rig: Rig, home: FloatArray) -> AuditLimits:
    """Return what must hold on this arm: the maker's limits, and those the soak is run with."""
    published = rig.robot.arm.limits
    n = len(rig.robot.joint_names)
    rate = published.torque_rate if published.torque_rate is not None else np.full(n, _TORQUE_RATE)
    limits = AuditLimits()
    limits.torque = published.torque.tolist()
    limits.torque_rate = rate.tolist()
    limits.braking_torque_rate = (_BRAKING_FACTOR * rate).tolist()
    limits.velocity = published.velocity.tolist()
    limits.force, limits.moment = _FORCE, _MOMENT
    limits.energy, limits.power = TANK_CAPACITY + ENERGY_TOLERANCE, TANK_REFILL
    limits.rest_s = REST_S
    limits.workspace_min = (home[:3, 3] - _REACH).tolist()
    limits.workspace_max = (home[:3, 3] + _REACH).tolist()
    limits.workspace_beyond = WORKSPACE_BEYOND
    return limits


def settings_of(limits: AuditLimits) -> dict[str, Any]:
    """Return the settings of a controller that shall keep these limits, with everything on."""
    return {
        "torque_limit": limits.torque,
        "torque_rate_limit": limits.torque_rate,
        "braking_torque_rate_limit": limits.braking_torque_rate,
        "max_joint_velocity": limits.velocity,
        "wrench_limits__force": limits.force,
        "wrench_limits__torque": limits.moment,
        "energy_tank__capacity": TANK_CAPACITY,
        "energy_tank__refill_power": limits.power,
        "workspace_min": limits.workspace_min,
        "workspace_max": limits.workspace_max,
        "barrier__joint_braking": 10.0,
        "barrier__workspace_braking": 5.0,
        "heartbeat_timeout_s": 0.1,
        "heartbeat_fault_s": 1.0,
        "chunk__timeout_s": 2.0,
        "chunk__accept_joint_positions": True,
        "chunk__accept_twists": True,
        "chunk__max_slowdown": 3.0,
        "chunk__joint_velocity_share": 0.9,
    }


def make_rig(robot: RobotSpec, seed: int) -> Rig:
    """Return the headline's hardware over a plate, with a draw of model errors."""
    hardware = dataclasses.replace(
        table.hardware_of(robot), wall_below=_PLATE, wall_friction=0.3, payload=1e-6
    )
    rig = Rig(robot, hardware, robot.arm.drives.control_rate)
    rig.draw(seed, ModelError())
    return rig


class Soak:
    """One arm, its controller and everything that goes wrong.

    Args:
        robot: The arm.
        seed: Of all draws.
        changes: Settings of the controller that differ, by name; for positive controls.
    """

    def __init__(self, robot: RobotSpec, seed: int, **changes: Any) -> None:
        self.rig = make_rig(robot, seed)
        self.rng = np.random.default_rng(seed)
        home = table.home_pose(robot)
        limits = limits_of(self.rig, home)
        config = runs.controller_config(
            self.rig,
            robot.arm.drives.control_rate,
            runs.Gains(),
            **{**settings_of(limits), **changes},
        )
        description = robot.description()
        self.controller = vla_control.Controller(description, config)
        model, data = self.rig.model, self.rig.data
        self._tool = int(model.body(robot.tool_frame).id)
        self._load = int(model.body("payload").id)
        self.audit = Audit(
            self.controller,
            model._address,
            data._address,
            self.rig.layout(),
            limits,
            self._tool,
            self._load,
        )
        self.loop = Loop(self.rig.plant, self.audit)
        self.chunks = ChunkSource(self.rng, description, home, _REACH)
        self.accepted, self.rejected = 0, 0
        self._boot, self._grant = 1, 1
        self._queue: list[tuple[float, int, str]] = []
        self._count = 0
        self._now = 0.0
        self.rig.lay()
        self.loop.reset(0)
        self.audit.beat(self._boot, self._grant)
        for kind in _EVERY:
            self._later(kind, self.rng.exponential(_EVERY[kind]))

    def run(self, seconds: float, progress: Callable[[float], None] = lambda now: None) -> None:
        """Run on for so long; ``progress`` is told the time about every simulated second."""
        end = self._now + seconds
        told = self._now
        while self._queue and self._queue[0][0] < end:
            when, _, kind = heapq.heappop(self._queue)
            self._advance_to(when)
            getattr(self, f"_on_{kind}")()
            if kind in _EVERY:
                self._later(kind, self.rng.exponential(_EVERY[kind]))
            if self._now - told >= 1.0:
                told = self._now
                progress(told)
        self._advance_to(end)

    @property
    def violations(self) -> int:
        """How often a check has failed, over all checks."""
        return sum(count for count, _ in self.audit.failures.values())

    def figures(self) -> dict[str, float]:
        """Return what was seen, by the names of the benchmark."""
        seen = {f"soak_{name}": value for name, value in self.audit.figures.items()}
        return {
            **seen,
            "soak_violations": float(self.violations),
            "soak_chunks_accepted": float(self.accepted),
            "soak_chunks_rejected": float(self.rejected),
        }

    def _later(self, kind: str, delay: float) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self._now + delay, self._count, kind))

    def _advance_to(self, when: float) -> None:
        cycles = round((when - self._now) / self.rig.plant_period)
        if cycles <= 0:
            return
        self.loop.advance(cycles)
        self._now += cycles * self.rig.plant_period

    def _on_chunk(self) -> None:
        state = self.controller.state()
        now_ns = int(self.loop.snapshot().time_ns)
        chunk = self.chunks.draw(state, now_ns, self._boot, self._grant)
        taken = self.controller.push_chunk(chunk) is vla_control.RejectReason.NONE
        self.accepted += taken
        self.rejected += not taken

    def _on_grant(self) -> None:
        self._grant += 1
        self.audit.beat(self._boot, self._grant)

    def _on_restart(self) -> None:
        self._boot, self._grant = self._boot + 1, 1
        self.audit.silence()
        self._later("beat", self.rng.uniform(0.1, 2.0))

    def _on_silence(self) -> None:
        self.audit.silence()
        self._later("beat", self.rng.exponential(0.3))

    def _on_beat(self) -> None:
        self.audit.beat(self._boot, self._grant)

    def _on_stop(self) -> None:
        self.audit.stop()
        if self.rng.random() < 0.2:
            self.audit.reset()  # a stop not yet taken up wins

    def _on_reset(self) -> None:
        # Some faults are left long enough to see the arm come to rest.
        if self.rng.random() < 0.3:
            self.audit.reset()

    def _on_revoke(self) -> None:
        self.controller.revoke()

    def _on_tare(self) -> None:
        self.controller.tare()

    def _on_payload(self) -> None:
        rng = self.rng
        payload = vla_control.Payload()
        payload.mass = float(rng.choice([0.0, rng.uniform(0.0, 1.0), -1.0, np.nan]))
        payload.center_of_mass = rng.uniform(-0.05, 0.05, 3)
        self.controller.set_payload(payload)

    def _on_gains(self) -> None:
        rng = self.rng
        axes = np.concatenate([rng.uniform(50.0, 1500.0, 3), rng.uniform(5.0, 60.0, 3)])
        if rng.random() < 0.2:
            axes[rng.integers(6)] = rng.choice([-1.0, np.nan, 1e9])
        gains = vla_control.TaskGains(np.diag(axes), float(rng.uniform(0.5, 1.2)))
        self.controller.set_gains(gains)

    def _on_blind(self) -> None:
        rng = self.rng
        index = int(rng.integers(2 * len(self.rig.robot.joint_names)))
        value = float(rng.choice([np.nan, np.inf, -np.inf, 1e3]))
        self.audit.spoil(index, value, int(rng.integers(1, 40)))

    def _on_freeze(self) -> None:
        # A lost packet or three: what was measured before is seen again.
        self.audit.freeze(int(self.rng.integers(1, 4)))

    def _on_clock(self) -> None:
        # Some jumps are too small to be taken for one.
        jump = self.rng.choice([0.003, 0.03, 0.2, 5.0, -0.003, -0.2, -5.0])
        now = self.loop.snapshot()
        self.loop.set_clock(int(now.time_ns) + round(1e9 * jump), int(now.cycles))

    def _on_push(self) -> None:
        rng = self.rng
        wrench = np.concatenate([15.0 * rng.standard_normal(3), 2.0 * rng.standard_normal(3)])
        self.rig.data.xfrc_applied[self._tool] = np.clip(wrench, -40.0, 40.0)
        self._later("let_go", rng.uniform(0.02, 1.0))

    def _on_let_go(self) -> None:
        self.rig.data.xfrc_applied[self._tool] = 0.0

    def _on_object(self) -> None:
        mass = self.rng.choice([1e-6, self.rng.uniform(0.1, 1.0)])
        self.rig.model.body_mass[self._load] = mass

    def _on_switch_off(self) -> None:
        self.audit.deactivate()
        self._later("switch_on", self.rng.uniform(0.01, 0.5))

    def _on_switch_on(self) -> None:
        self.audit.reactivate()
