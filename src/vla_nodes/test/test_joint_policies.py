# SPDX-License-Identifier: Apache-2.0
"""Policies that command joints complete a task: behind both protocols, as messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vla_nodes import convert
from vla_nodes.inference.worker import check_chunk
from vla_policy import ActionChunk, Context, Policy, PolicySpec, RobotState, load_action_contract
from vla_policy.evaluation.evaluate import LOCKSTEP_OVERRIDES
from vla_policy.evaluation.rollout import TIME_LIMITS, run_episode
from vla_policy.interface import ActItem, BatchPolicy
from vla_policy.serving.connect import connect
from vla_policy.serving.server import PolicyServer, ServerConfig
from vla_sim.experts import Expert
from vla_sim.experts.base import STEP_DT
from vla_sim.simulation import Simulation

HORIZON, EXECUTE_STEPS = 10, 6
CONTRACTS = ("droid_joint_position", "droid_joint_velocity")


class JointExpert(BatchPolicy):
    """The scripted expert's plan as joint positions, at the rate of an action contract."""

    def __init__(self, sim: Simulation, contract: str) -> None:
        action = load_action_contract(contract, max_opening=0.08)
        self.spec = PolicySpec(
            cameras=("scene",),
            image_size=32,
            joint_names=tuple(sim.robot.joint_names),
            state_names=(),
            horizon=HORIZON,
            step_dt=action.step_dt,
            execute_steps=EXECUTE_STEPS,
            feature_name="none",
            feature_shape=(1, HORIZON, 1),
            latency_s=0.0,
            robot="panda",
            action=action.action,
            policy_id=contract,
        )
        self._sim = sim
        self._expert = Expert(sim.robot)

    def reset(self, seed: int = 0) -> None:
        """Remembers nothing."""

    def encode(self, observation: Any) -> Context:
        return self.encode_batch([(observation, 0)])[0]

    def encode_batch(self, items: Sequence[tuple[Any, int]]) -> list[Context]:
        return [Context(one.stamp_ns, one.instruction, count, None) for one, count in items]

    def act(self, context: Context, state: RobotState, guidance: Any = None) -> ActionChunk:
        return self.act_batch([ActItem(context, state, 0)])[0]

    def act_batch(self, items: Sequence[ActItem]) -> list[ActionChunk]:
        return [self._act(context, state) for context, state, _, _ in items]

    def _act(self, context: Context, state: RobotState) -> ActionChunk:
        poses, openings = self._expert.plan(self._sim)
        joints, q = [], state.q
        for pose in poses:
            q, found = self._sim.kinematics.inverse_kinematics(pose, q)
            assert found
            joints.append(q)
        grid = STEP_DT * np.arange(len(poses))
        times = self.spec.step_dt * np.arange(HORIZON)
        return ActionChunk(
            stamp_ns=context.stamp_ns,
            step_dt=self.spec.step_dt,
            commanded=np.stack([np.interp(times, grid, one) for one in np.array(joints).T], axis=1),
            gripper_opening=np.interp(times, grid, openings),
            features=np.zeros((1, HORIZON, 1), dtype=np.float32),
            inference_id=context.inference_id,
            policy_id=self.spec.policy_id,
        )


@contextmanager
def served(policy: BatchPolicy) -> Iterator[str]:
    """The address of a server in a thread."""
    listening, ports = threading.Event(), []

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    server = PolicyServer(policy, ServerConfig(port=0))
    thread = threading.Thread(target=server.run, args=(ready,))
    thread.start()
    assert listening.wait(10.0)
    try:
        yield f"ws://127.0.0.1:{ports[0]}"
    finally:
        server.stop()
        thread.join(10.0)


def openpi_file(folder: Path, address: str, contract: str, sim: Simulation) -> Path:
    """How openpi's protocol is spoken with our server."""
    file = folder / "server.yaml"
    state = {
        "observation/joint_position": ["joint_position"],
        "observation/joint_velocity": ["joint_velocity"],
        "observation/gripper_opening": ["gripper_opening"],
        "observation/pose_tool_in_base": ["pose"],
    }
    entries = {
        "server": address,
        "robot": "panda",
        "joint_names": list(sim.robot.joint_names),
        "image_size": 32,
        "images": {"observation/image/scene": "scene"},
        "state": state,
        "prompt": "prompt",
        "action": contract,
        "max_opening": 0.08,
        "horizon": HORIZON,
        "execute_steps": EXECUTE_STEPS,
        "latency_s": 0.0,
    }
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return Simulation(
        "panda",
        "touch",
        cameras=("scene",),
        image_size=32,
        controller_overrides=LOCKSTEP_OVERRIDES,
    )


def push(sim: Simulation, chunk: ActionChunk, sequence: int) -> str:
    """Sends a chunk as policy_node does, and says what the controller makes of it."""
    names = tuple(sim.robot.joint_names)
    frames = {"base_frame": sim.robot.base_frame, "tool_frame": sim.robot.tool_frame}
    check_chunk(chunk, len(names))
    message = convert.to_action_chunk(
        chunk, joint_names=names, sequence=sequence, instruction_id=1, **frames
    )
    return sim.push_chunk(convert.from_action_chunk(message, **frames)).name


def touches(sim: Simulation, policy: Policy) -> bool:
    """Whether a policy's chunks, as messages, complete the task."""
    step = round(policy.spec.step_dt * EXECUTE_STEPS * 1e9)
    due = sim.time_ns
    for sequence in range(1, 1 + int(TIME_LIMITS["touch"] * 1e9 / step)):
        observation = sim.observe()
        chunk = policy.act(policy.encode(observation), RobotState.of(observation))
        assert chunk.is_joint
        assert push(sim, chunk, sequence) == "NONE"
        due += step
        sim.advance((due - sim.time_ns) * 1e-9)
        if sim.judge().success:
            return True
    return False


@pytest.mark.parametrize("contract", CONTRACTS)
def test_joints_through_openpis_protocol_complete_a_task(
    sim: Simulation, tmp_path: Path, contract: str
) -> None:
    for seed in (11, 12):
        sim.reset("touch", seed)
        with served(JointExpert(sim, contract)) as address:
            policy = connect(openpi_file(tmp_path, address, contract, sim))
            assert touches(sim, policy)


def test_joints_through_our_own_protocol_complete_a_task(sim: Simulation) -> None:
    sim.reset("touch", 13)
    with served(JointExpert(sim, CONTRACTS[0])) as address:
        result = run_episode(
            connect(address, call_timeout=30.0), sim, time_limit_s=TIME_LIMITS["touch"]
        )
    assert (result.success, result.rejected) == (True, 0)


def test_an_arm_that_stands_still_completes_nothing(sim: Simulation) -> None:
    """The positive control of those above."""

    class Idle(JointExpert):
        def _act(self, context: Context, state: RobotState) -> ActionChunk:
            chunk = super()._act(context, state)
            chunk.commanded[:] = state.q
            return chunk

    sim.reset("touch", 11)
    assert not touches(sim, Idle(sim, CONTRACTS[0]))


@pytest.mark.parametrize(
    ("joint", "value", "reason"),
    [(3, 0.5, "OUT_OF_WORKSPACE"), (0, 2.0, "TOO_FAST"), (0, 0.0, "NONE")],
)
def test_joints_beyond_their_limits_are_rejected(
    sim: Simulation, joint: int, value: float, reason: str
) -> None:
    """A step to a value at once, or beyond what the joint can do."""
    sim.reset("touch", 11)
    observation = sim.observe()
    policy = JointExpert(sim, CONTRACTS[0])
    chunk = policy.act(policy.encode(observation), RobotState.of(observation))
    chunk.commanded[:] = observation.q
    if value:
        chunk.commanded[1:, joint] = value
    assert push(sim, chunk, 1) == reason
