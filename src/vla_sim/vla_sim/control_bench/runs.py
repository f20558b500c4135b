# SPDX-License-Identifier: Apache-2.0
"""One law on one plant along one curve, in lockstep, recorded cycle by cycle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import vla_control
from vla_sim._core import Law, Loop, PeerConfig, PeerLaw, PositionLaw, Trace
from vla_sim.control_bench import curves
from vla_sim.control_bench.curves import Curve
from vla_sim.control_bench.hardware import Rig
from vla_sim.control_bench.measures import Record
from vla_sim.typing import FloatArray

# Time in which the arm stands still before the curve begins.
_LEAD = 0.1
# The same where the payload is weighed before: first the arm comes to rest, then it takes a tare.
_TARE_AT = 1.5
_LEAD_WITH_TARE = 3.0


@dataclass(frozen=True)
class Gains:
    """Stiffness that every law of a comparison is given.

    Attributes:
        translational: N/m.
        rotational: Nm/rad.
    """

    translational: float = 600.0
    rotational: float = 30.0


class Subject(Protocol):
    """A law under test, and how it is told what to do."""

    law: Law | vla_control.Controller

    def feed(self, time_s: float, make_chunk: Callable[[], vla_control.Chunk]) -> bool:
        """Hand over the newest chunk; returns whether it was taken."""

    def tick(self, time_s: float) -> None:
        """Called every step of 50 ms, for laws that take single poses."""

    def tare(self) -> None:
        """Weigh what is held, for laws that can."""


class Ours:
    """The controller, fed with chunks."""

    def __init__(self, rig: Rig, config: vla_control.ControllerConfig) -> None:
        self.controller = vla_control.Controller(rig.robot.description(), config)
        self.law: Law | vla_control.Controller = self.controller

    def feed(self, time_s: float, make_chunk: Callable[[], vla_control.Chunk]) -> bool:
        """Push a chunk."""
        return self.controller.push_chunk(make_chunk()) is vla_control.RejectReason.NONE

    def tick(self, time_s: float) -> None:
        """Nothing to do: the controller samples its chunk itself."""

    def tare(self) -> None:
        """Weigh what is held."""
        self.controller.tare()


class PeerWithPoses:
    """The peer's law as its users drive it: the pose of the chunk that is due, every 50 ms."""

    def __init__(self, rig: Rig, gains: Gains) -> None:
        self.peer = PeerLaw(rig.robot.description(), _peer_config(rig, gains), None)
        self.law: Law | vla_control.Controller = self.peer
        self._poses: FloatArray | None = None
        self._start_ns = 0

    def feed(self, time_s: float, make_chunk: Callable[[], vla_control.Chunk]) -> bool:
        """Keep the chunk."""
        chunk = make_chunk()
        self._poses, self._start_ns = chunk.poses, chunk.stamp_ns
        return True

    def tick(self, time_s: float) -> None:
        """Set the pose that is due as the target."""
        if self._poses is None:
            return
        due = (time_s - self._start_ns * 1e-9) / curves.STEP_DT
        index = int(np.clip(np.floor(due + 1e-6), 0, len(self._poses) - 1))
        self.peer.set_target(np.ascontiguousarray(self._poses[index]))

    def tare(self) -> None:
        """Nothing to do: this law knows of no payload."""


class WithPreview(Ours):
    """Another law that follows the controller's own reference, cycle by cycle."""

    def __init__(
        self,
        rig: Rig,
        config: vla_control.ControllerConfig,
        make_law: Callable[[vla_control.Controller], Law],
    ) -> None:
        super().__init__(rig, config)
        self.law = make_law(self.controller)


def _peer_config(rig: Rig, gains: Gains) -> PeerConfig:
    config = PeerConfig()
    config.translational_stiffness = gains.translational
    config.rotational_stiffness = gains.rotational
    config.command_includes_gravity = not rig.hardware.gravity_compensation
    return config


def controller_config(rig: Rig, rate: float, gains: Gains, **changes: Any) -> Any:
    """Return the configuration of the controller for a rig, the same for every exercise.

    It knows the nominal friction and rotor inertia; a draw of model errors changes the plant's.
    """
    hardware = rig.hardware
    switched_on = {
        "friction__coulomb": hardware.coulomb.tolist(),
        "friction__viscous": hardware.viscous.tolist(),
        "rotor_inertia": hardware.armature.tolist(),
        "jacobian_rate_feed_forward": True,
        "integral__gain": 10.0,
        "integral__max_force": 20.0,
        "integral__max_torque": 3.0,
        # White noise of 2 mm is taken out whole.
        "chunk__smoothing_deviation": 0.006,
        "chunk__blend_time": 0.2,
        # Errors are against a curve in time.
        "chunk__max_slowdown": 1.0,
        # Along the vertical, for chunks that say how hard to press.
        "force__axes": [False, False, True, False, False, False],
    }
    return rig.robot.controller_config(
        rate=rate,
        command_includes_gravity=not hardware.gravity_compensation,
        translational_stiffness=[gains.translational] * 3,
        rotational_stiffness=[gains.rotational] * 3,
        **{**switched_on, **changes},
    )


def ours(rig: Rig, rate: float, gains: Gains, **changes: Any) -> Subject:
    """Return the controller."""
    return Ours(rig, controller_config(rig, rate, gains, **changes))


def peer_with_poses(rig: Rig, rate: float, gains: Gains) -> Subject:
    """Return the peer's law, given poses."""
    return PeerWithPoses(rig, gains)


def peer_with_preview(rig: Rig, rate: float, gains: Gains) -> Subject:
    """Return the peer's law, given our reference."""
    return WithPreview(
        rig,
        controller_config(rig, rate, gains),
        lambda preview: PeerLaw(rig.robot.description(), _peer_config(rig, gains), preview),
    )


def position_loop(rig: Rig, rate: float, gains: Gains) -> Subject:
    """Return a stiff position loop, given our reference."""
    return WithPreview(
        rig,
        controller_config(rig, rate, gains),
        lambda preview: PositionLaw(
            rig.robot.description(), 60.0, not rig.hardware.gravity_compensation, preview
        ),
    )


@dataclass(frozen=True)
class Feed:
    """How chunks arrive.

    Attributes:
        period: Between observations, s; None = one chunk only.
        latency: From observation to arrival, s.
        steps: Waypoints per chunk.
        noise_mm: Standard deviation of each coordinate of each waypoint.
        seed: Of the noise.
        tare: Whether the controller weighs what it holds before the curve begins.
        wrench: What the tool shall exert, N and Nm in the base frame; None = nothing is said.
    """

    period: float | None = curves.CHUNK_PERIOD
    latency: float = curves.LATENCY
    steps: int = curves.CHUNK_STEPS
    noise_mm: float = 0.0
    seed: int = 0
    tare: bool = False
    wrench: tuple[float, float, float, float, float, float] | None = None


def run(
    rig: Rig,
    subject: Subject,
    curve: Curve,
    feed: Feed,
    *,
    see: Callable[[float], Curve] | None = None,
) -> Record:
    """Drive a law along a curve.

    The curve's clock starts when the arm has stood still for a moment. Observations are taken from
    its start on; each becomes a chunk that arrives after the latency.

    Args:
        rig: The plant; its start posture is laid.
        subject: The law.
        curve: What is to be followed, and for how long.
        feed: How chunks arrive.
        see: Time of an observation to the curve that the chunk is made of; None = ``curve``.
    """
    description = rig.robot.description()
    loop = Loop(rig.plant, subject.law)
    trace = Trace(description, rig.wall_body)
    loop.set_trace(trace)
    rig.lay()
    loop.reset(0)
    rng = np.random.default_rng(feed.seed)
    lead = _LEAD_WITH_TARE if feed.tare else _LEAD
    origin_ns = round(lead * 1e9)
    observations = [0.0]
    while feed.period is not None and observations[-1] + feed.period < curve.duration:
        observations.append(observations[-1] + feed.period)

    period = rig.plant_period
    sequence, rejected = 0, 0
    now, end = 0, round((lead + curve.duration) / period)
    tick = round(curves.STEP_DT / period)
    arrivals = [round((lead + start + feed.latency) / period) for start in observations]
    while now < end:
        if sequence < len(arrivals) and arrivals[sequence] <= now:
            start = observations[sequence]
            sequence += 1
            shape = (feed.steps, 3)
            noise = 1e-3 * feed.noise_mm * rng.standard_normal(shape) if feed.noise_mm else None
            make_chunk = functools.partial(
                curves.chunk_of,
                see(start) if see else curve,
                start,
                origin_ns,
                description,
                sequence=sequence,
                steps=feed.steps,
                noise=noise,
                wrench=None if feed.wrench is None else np.array(feed.wrench),
            )
            taken = subject.feed(now * period, make_chunk)
            rejected += not taken
        subject.tick(now * period)
        if feed.tare and now == round(_TARE_AT / period):
            subject.tare()
        ahead = min(end, (now // tick + 1) * tick)
        if sequence < len(arrivals) and arrivals[sequence] > now:
            ahead = min(ahead, arrivals[sequence])
        loop.advance(ahead - now)
        now = ahead
    return Record(_columns(trace), period, lead, rejected)


def _columns(trace: Trace) -> dict[str, FloatArray]:
    groups = trace.columns
    width = sum(count for _, count in groups)
    rows = trace.values.reshape(-1, width)
    columns, first = {}, 0
    for name, count in groups:
        columns[name] = rows[:, first : first + count]
        first += count
    return columns
