# SPDX-License-Identifier: Apache-2.0
"""Chunks that aim the arm into itself and into the table, with and without the barrier there.

How near the bodies come is MuJoCo's answer, from the hulls of its own geometry, and not the
monitor's. The simulated arm does not touch itself: without a barrier its links pass through one
another.

    python -m vla_sim.control_bench.collisions [TRIALS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import mujoco
import numpy as np

import vla_control
from vla_sim import collision, robots
from vla_sim.control_bench.curves import minimum_jerk
from vla_sim.robots import RobotSpec
from vla_sim.simulation import Simulation
from vla_sim.typing import FloatArray

_STEPS, _STEP_DT = 30, 0.05
_DURATION = 3.0  # s of a trial
_FARTHEST = 1.5  # rad from home to the posture aimed at
_DEEPEST = -0.02  # m by which two bodies overlap there, at least


@dataclass(frozen=True)
class Approach:
    """How one trial went.

    Attributes:
        aimed: The pair that overlaps most in the posture aimed at.
        least: Least distance between any two watched bodies, m; negative = they overlap.
        acted: Whether the barrier acted.
        moved: Farthest that a joint has moved, rad.
    """

    aimed: tuple[str, str]
    least: float
    acted: bool
    moved: float


class TrueDistance:
    """Distances between the watched pairs of a simulation, as MuJoCo finds them."""

    def __init__(self, model: mujoco.MjModel, pairs: list[tuple[str, str]]) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.geoms = {pair: self._geoms(*pair) for pair in pairs}

    def _geoms(self, first: str, second: str) -> list[tuple[int, int]]:
        return [(a, b) for a in self._of(first) for b in self._of(second)]

    def _of(self, name: str) -> list[int]:
        if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, name) < 0:
            return [int(self.model.geom(name).id)]  # the table is a geometry of the world
        body = self.model.body(name).id
        return [g for g in range(self.model.ngeom) if self.model.geom_bodyid[g] == body]

    def of(self, qpos: FloatArray, horizon: float = 0.1) -> dict[tuple[str, str], float]:
        """Distance per pair, m, at most ``horizon``."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        return {
            pair: min(
                mujoco.mj_geomDistance(self.model, self.data, a, b, horizon, None) for a, b in geoms
            )
            for pair, geoms in self.geoms.items()
        }


def make_sim(robot: str, *, barrier: bool) -> Simulation:
    """Return a simulation that follows chunks of joint positions, slowed down as far as need be.

    Its controller knows the rotor inertia, as that of a real arm should: it brakes with it.
    """
    overrides: dict[str, object] = {
        "rotor_inertia": robots.get(robot).armature.tolist(),
        "chunk__accept_joint_positions": True,
        "chunk__max_slowdown": 20.0,
        "nullspace_stiffness": 50.0,
    }
    if not barrier:
        overrides["barrier__distance_braking"] = 0.0
    return Simulation(robot, "touch", 0, cameras=(), controller_overrides=overrides)


def draw_target(
    robot: RobotSpec, monitor: vla_control.CollisionMonitor, rng: np.random.Generator
) -> tuple[FloatArray, tuple[str, str]]:
    """Draw joint positions in which two bodies overlap, and say which."""
    model = vla_control.RobotModel(robot.description())
    low = np.maximum(model.position_lower + 0.1, robot.home_q - _FARTHEST)
    high = np.minimum(model.position_upper - 0.1, robot.home_q + _FARTHEST)
    while True:
        q = rng.uniform(low, high)
        found = monitor.compute(q)
        if found and found[0].distance < _DEEPEST:
            return q, monitor.pairs[found[0].pair]


def approach(
    sim: Simulation, truth: TrueDistance, target: FloatArray, aimed: tuple[str, str], seed: int
) -> Approach:
    """Send the arm from home to ``target`` and watch it."""
    sim.reset("touch", seed)
    start, _ = sim.joints()
    share = np.array([minimum_jerk(f) for f in np.linspace(0.0, 1.0, _STEPS)])[:, None]
    chunk = vla_control.Chunk(
        stamp_ns=sim.time_ns,
        step_dt=_STEP_DT,
        base_frame=sim.robot.base_frame,
        tool_frame=sim.robot.tool_frame,
        mode=vla_control.ChunkMode.JOINT_POSITION,
        joint_names=list(sim.robot.joint_names),
        joint_values=start + share * (target - start),
    )
    reason = sim.push_chunk(chunk)
    if reason != vla_control.RejectReason.NONE:
        raise RuntimeError(f"the chunk towards {aimed} was rejected: {reason.name}")
    least, acted, moved = np.inf, False, 0.0
    for _ in range(round(_DURATION / collision.PERIOD)):
        sim.advance(collision.PERIOD)
        least = min(least, *truth.of(sim.qpos()).values())
        acted = acted or sim.controller.state().barrier_active
        moved = max(moved, float(np.abs(sim.joints()[0] - start).max()))
    return Approach(aimed, float(least), acted, moved)


def run(robot: str, trials: int, *, barrier: bool, seed: int = 0) -> list[Approach]:
    """Run trials whose targets depend on ``seed`` alone."""
    sim = make_sim(robot, barrier=barrier)
    monitor = collision.make_monitor(sim.robot, [collision.table()])
    truth = TrueDistance(sim.model, sorted(set(monitor.pairs)))
    rng = np.random.default_rng(seed)
    out = []
    for trial in range(trials):
        target, aimed = draw_target(sim.robot, monitor, rng)
        out.append(approach(sim, truth, target, aimed, trial))
    sim.close()
    return out


def compute_time(robot: str, calls: int = 2000, seed: int = 0) -> FloatArray:
    """Return how long computations at random postures took, s."""
    spec = robots.get(robot)
    monitor = collision.make_monitor(spec, [collision.table()])
    rng = np.random.default_rng(seed)
    out = np.zeros(calls)
    for i in range(calls):
        q = spec.home_q + rng.uniform(-0.5, 0.5, len(spec.home_q))
        begin = time.perf_counter()
        monitor.compute(q)
        out[i] = time.perf_counter() - begin
    return out


def hand_over_periods(robot: str, seconds: float = 20.0, *, busy: int = 0) -> FloatArray:
    """Return how long a thread at 200 Hz took from one hand-over of distances to the next, s.

    Args:
        robot: Whose distances are computed, beside a control loop at 1 kHz.
        seconds: How long it is watched.
        busy: Processes that compute without a pause meanwhile.
    """
    spec = robots.get(robot)
    config = spec.controller_config(barrier__distance_braking=collision.BRAKING)
    controller = vla_control.Controller(spec.description(), config)
    monitor = collision.make_monitor(spec, [collision.table()])
    rest = np.zeros(len(spec.home_q))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        now = time.monotonic()
        controller.activate(spec.home_q, rest, time.monotonic_ns())
        thread = vla_control.CollisionThread(controller, monitor, 200.0)
        seen: list[tuple[int, int]] = []
        end = now + seconds
        while now < end:
            controller.update(spec.home_q, rest, time.monotonic_ns(), 1e-3)
            if thread.computed > (seen[-1][1] if seen else 0):
                seen.append((thread.handed_over_ns, thread.computed))
            now += 1e-3
            time.sleep(max(0.0, now - time.monotonic()))
    finally:
        for other in others:
            other.kill()
            other.wait()
    times, counts = np.array(seen).T
    passed = np.diff(counts)
    # Of hand-overs that the loop has slept through, each counts with their mean.
    return np.repeat(np.diff(times) * 1e-9 / passed, passed)


def main() -> None:
    """Print the figures of ``docs/control.md`` as JSON."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    figures: dict[str, float] = {}
    for robot in ("panda", "ur5e"):
        took = compute_time(robot)
        figures[f"distances_p50_us_{robot}"] = float(np.percentile(took, 50) * 1e6)
        figures[f"distances_p99_us_{robot}"] = float(np.percentile(took, 99) * 1e6)
        for name, busy in (("", 0), ("_busy", os.cpu_count() or 1)):
            periods = hand_over_periods(robot, busy=busy) * 1e3
            figures[f"distances_period{name}_p50_ms_{robot}"] = float(np.percentile(periods, 50))
            figures[f"distances_period{name}_p99_ms_{robot}"] = float(np.percentile(periods, 99))
            figures[f"distances_period{name}_max_ms_{robot}"] = float(periods.max())
        for name, barrier in (("", True), ("_without", False)):
            least = np.array([a.least for a in run(robot, trials, barrier=barrier)])
            figures[f"collisions{name}_{robot}"] = int((least < 0.0).sum())
            figures[f"smallest_distance{name}_mm_{robot}"] = float(least.min() * 1e3)
    print(json.dumps({"figures": figures, "settings": {"trials": trials}}, indent=2))


if __name__ == "__main__":
    main()
