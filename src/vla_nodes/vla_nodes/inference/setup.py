# SPDX-License-Identifier: Apache-2.0
"""What policy_node's parameters stand for: policy, contract and schedule. No rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla_data.contract import (
    CameraContract,
    GripperContract,
    JointsContract,
    ObservationContract,
)
from vla_data.observation import Observation
from vla_failure.binding import Binding
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.scripted import make_scripted
from vla_policy import PolicyError, schedules
from vla_policy.memory import spare_full_collections
from vla_policy.serving.connect import connect, is_remote

JOINT_STATES = "joint_states"
DEFAULT_CHECKPOINT = "nano_pi0"
SCRIPTED = "scripted/"


def load(config: PolicyConfig) -> Any:
    """Loads the policy that the parameters name.

    Raises:
        ValueError or OSError: Naming what is missing.
    """
    if config.checkpoint.startswith(SCRIPTED):
        return make_scripted(config.checkpoint, config.joint_names)
    if is_remote(config.checkpoint):
        return _connect(config)
    path = None if config.checkpoint == DEFAULT_CHECKPOINT else Path(config.checkpoint)
    if path is not None and not path.is_dir():
        raise ValueError(f"no checkpoint folder at {path}")
    # Loads torch, which takes seconds and which scripted policies do without.
    from vla_policy import load_policy

    try:
        policy = load_policy(path, threads=config.threads)
    except PolicyError as error:
        raise ValueError(str(error)) from error
    policy.reset(config.seed)
    if tuple(policy.spec.joint_names) != config.joint_names:
        raise ValueError(
            f"the checkpoint {config.checkpoint} is for the joints "
            f"{', '.join(policy.spec.joint_names)}, not {', '.join(config.joint_names)}"
        )
    return policy


def _connect(config: PolicyConfig) -> Any:
    try:
        policy = connect(
            config.checkpoint,
            joint_names=config.joint_names,
            certificates=config.certificates,
            call_timeout=config.server_timeout,
            encode_ahead=config.act_rate > 0.0,
        )
        policy.reset(config.seed)
    except PolicyError as error:
        raise ValueError(str(error)) from error
    return policy


def make_contract(config: PolicyConfig, spec: Any) -> ObservationContract:
    """The observation contract of a robot (parameters) and a policy (what it looks at)."""
    size = None if spec.fits_images else spec.image_size
    cameras = {
        name: CameraContract(
            topic=f"cameras/{name}/image_raw",
            height=size,
            width=size,
            encoding="rgb8",
            tolerance=config.image_tolerance,
        )
        for name in spec.cameras
    }
    return robot_contract("policy", config, cameras)


def robot_contract(
    name: str, config: PolicyConfig, cameras: Mapping[str, CameraContract]
) -> ObservationContract:
    """The observation contract of a robot (parameters) with some cameras.

    The live observation and the rows of a dataset are both built by it.
    """
    return ObservationContract(
        name=name,
        base_frame=config.base_frame,
        tool_frame=config.tool_frame,
        cameras=cameras,
        joints=JointsContract(JOINT_STATES, config.joint_names, config.joint_state_tolerance),
        gripper=GripperContract(
            config.finger_joint_states,
            config.finger_joint_names,
            config.joint_state_tolerance,
            config.finger_scale,
            config.finger_offset,
        ),
    )


def make_schedule(config: PolicyConfig, policy: Any, model: Callable[[], Any]) -> Any:
    """The schedule that the parameters name.

    Args:
        config: Parameters.
        policy: That it will be given.
        model: Gives the arm's ``vla_control.RobotModel`` once an observation could be built.

    Raises:
        ValueError: If the policy cannot serve it.
    """
    if config.schedule != "asynchronous" and config.act_rate > 0.0:
        raise ValueError(
            f"schedule is {config.schedule!r}; with an act_rate it must be 'asynchronous'"
        )
    return schedules.make_schedule(
        config.schedule, policy, policy.spec.latency_s, LateKinematics(model)
    )


def running(config: PolicyConfig, policy: Any, delay: float) -> Binding:
    """How a policy is run, as a failure detector's calibration is bound to it.

    Args:
        config: Parameters.
        policy: That runs.
        delay: From observations to their chunks, as measured, s.
    """
    needs_flow = schedules.SCHEDULES[config.schedule].needs_flow
    paced = f" with chunks at {config.act_rate:g} Hz" if config.act_rate > 0.0 else ""
    return Binding.of(
        policy.spec,
        sampler="rtc" if needs_flow else "euler",
        schedule=config.schedule + paced,
        latency_s=delay,
    )


class LateKinematics:
    """Kinematics of a description that arrives after the schedule has been made."""

    def __init__(self, model: Callable[[], Any]) -> None:
        """Args: model: Gives the newest model."""
        self._model = model

    def forward_kinematics(self, q: Any) -> Any:
        """See ``vla_control.RobotModel``."""
        return self._model().forward_kinematics(q)

    def inverse_kinematics(self, pose: Any, q_seed: Any) -> Any:
        """See ``vla_control.RobotModel``."""
        return self._model().inverse_kinematics(pose, q_seed)


def warm_up(policy: Any, seed: int) -> None:
    """Prepares a policy and infers twice: a process's first time is ten times slower."""
    spec = policy.spec
    size, joints = spec.image_size, len(spec.joint_names)
    picture = np.zeros((size, size, 3), dtype=np.uint8)
    observation = Observation(
        stamp_ns=0,
        images=dict.fromkeys(spec.cameras, picture),
        q=np.zeros(joints),
        dq=np.zeros(joints),
        gripper_opening=0.0,
        instruction="warm up",
        pose_tool_in_base=np.eye(4),
    )
    policy.prepare(observation)
    for _ in range(2):
        policy.act(policy.encode(observation), observation)
    policy.reset(seed)
    spare_full_collections()
