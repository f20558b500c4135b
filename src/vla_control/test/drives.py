# SPDX-License-Identifier: Apache-2.0
"""Drives that are told positions, under a controller with motion output."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from arm import HOME, make_config, make_description

import vla_control as vc

ACCELERATION = np.array([10.0, 10.0, 12.0, 12.0, 15.0, 15.0, 20.0])
VELOCITY = np.full(7, 2.5)  # of the URDF
LIMIT = 2.9


def motion_config(**changes: object) -> vc.ControllerConfig:
    """Motion output at 500 Hz; nothing is said of gravity or efforts."""
    defaults: dict[str, object] = {
        "output": vc.OutputKind.MOTION,
        "rate": 500.0,
        "command_includes_gravity": None,
        "effort_state": None,
        "tracking__max_acceleration": ACCELERATION.tolist(),
    }
    return make_config(**{**defaults, **changes})


@dataclass
class Drives:
    """Joints that follow what they are told, unless something holds them up.

    They are late by a dead time of `late` s and a time constant of `lag` s.
    """

    config: vc.ControllerConfig = field(default_factory=motion_config)
    q: np.ndarray = field(default_factory=HOME.copy)
    lag: float = 0.0
    late: float = 0.0
    time_ns: int = 0
    description: vc.RobotDescription = field(default_factory=make_description)
    wrench: np.ndarray | None = None  # that a sensor reports

    def __post_init__(self) -> None:
        """Activates the controller where the joints stand."""
        self.controller = vc.Controller(self.description, self.config)
        self.kinematics = vc.RobotModel(self.description)
        self.period = 1.0 / self.config.rate
        self.dq = np.zeros(len(self.q))
        self.blocked = False
        self.sequence = 0
        self.log: list[tuple[np.ndarray, np.ndarray]] = []
        self.beat: tuple[int, int] | None = None
        self.activate()

    def activate(self) -> None:
        """Activates where the joints stand."""
        self.controller.activate(self.q, self.dq, self.time_ns, wrench=self.wrench)
        self.log.append((self.q.copy(), np.zeros(len(self.q))))

    @property
    def tool(self) -> np.ndarray:
        """Where the command takes the tool."""
        return self.kinematics.forward_kinematics(self.log[-1][0])

    def step(
        self,
        q: np.ndarray | None = None,
        dq: np.ndarray | None = None,
        advance_ns: int | None = None,
    ) -> None:
        """One cycle; `q` and `dq` replace the measurement, `advance_ns` the step of the clock."""
        self.time_ns += round(1e9 * self.period) if advance_ns is None else advance_ns
        if self.beat is not None:
            self.controller.heartbeat(*self.beat, self.time_ns)
        self.log.append(
            self.controller.update_motion(
                self.q if q is None else q,
                self.dq if dq is None else dq,
                self.time_ns,
                self.period,
                self.wrench,
            )
        )
        share = 1.0 if self.lag <= 0.0 else 1.0 - np.exp(-self.period / self.lag)
        before = self.q
        if not self.blocked:
            told = max(0, len(self.log) - 1 - round(self.late / self.period))
            self.q = self.q + share * (self.log[told][0] - self.q)
        self.dq = (self.q - before) / self.period

    def run(self, seconds: float) -> list[vc.ControllerState]:
        """Runs and returns the state after every cycle."""
        states = []
        for _ in range(round(seconds / self.period)):
            self.step()
            states.append(self.controller.state())
        return states

    def push(self, poses: np.ndarray, **changes: object) -> vc.RejectReason:
        """Offers a chunk observed now."""
        self.sequence += 1
        arguments: dict[str, object] = {
            "stamp_ns": self.time_ns,
            "step_dt": 0.05,
            "base_frame": self.description.base_frame,
            "tool_frame": self.description.tool_frame,
            "poses": poses,
            "sequence": self.sequence,
        }
        if self.beat is not None:
            arguments.update(boot_id=self.beat[0], grant=self.beat[1])
        arguments.update(changes)
        return self.controller.push_chunk(vc.Chunk(**arguments))  # type: ignore[arg-type]

    @property
    def pose(self) -> np.ndarray:
        """Measured tool."""
        return self.kinematics.forward_kinematics(self.q)


def assert_within_limits(
    log: list[tuple[np.ndarray, np.ndarray]],
    period: float,
    jerk: np.ndarray | None = None,
    acceleration: np.ndarray = ACCELERATION,
) -> None:
    """Every limit of the commanded motion, by its own differences; velocities are their rate."""
    q = np.array([entry[0] for entry in log])
    dq = np.array([entry[1] for entry in log])
    assert np.isfinite(q).all()
    assert np.isfinite(dq).all()
    assert np.abs(q).max() <= LIMIT + 1e-12
    velocity = np.diff(q, axis=0) / period
    np.testing.assert_allclose(dq[1:], velocity, atol=1e-9)
    assert (np.abs(velocity) <= VELOCITY * (1 + 1e-9)).all()
    steps = np.diff(velocity, axis=0, prepend=np.zeros((1, q.shape[1]))) / period
    assert (np.abs(steps) <= acceleration * (1 + 1e-6)).all()
    if jerk is not None:
        jerks = np.diff(steps, axis=0, prepend=np.zeros((1, q.shape[1]))) / period
        assert (np.abs(jerks) <= jerk * (1 + 1e-6)).all()
