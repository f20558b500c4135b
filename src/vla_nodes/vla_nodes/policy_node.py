# SPDX-License-Identifier: Apache-2.0
"""policy_node: observations in, chunks and features out; the policy runs in its own thread."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

import vla_control
from vla_data.contract import (
    CameraContract,
    GripperContract,
    JointsContract,
    ObservationContract,
)
from vla_data.observation import Observation, ObservationError
from vla_msgs.msg import ActionChunk, ControlOwner, PolicyFeatures
from vla_nodes import convert
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference import Assignment, Inference, InferenceThread
from vla_nodes.node_tools import (
    ERROR,
    IMAGES,
    LATCHED,
    OK,
    RELIABLE,
    WARN,
    Diagnostics,
    RateMeter,
    run,
)
from vla_nodes.parameters import declare
from vla_nodes.remote import connect
from vla_nodes.scripted import make_scripted

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
    if config.checkpoint.startswith(("ws://", "wss://")):
        return connect(config)
    path = None if config.checkpoint == DEFAULT_CHECKPOINT else Path(config.checkpoint)
    if path is not None and not path.is_dir():
        raise ValueError(f"no checkpoint folder at {path}")
    # Loads torch, which takes seconds and which scripted policies do without.
    from vla_policy import PolicyError, load_policy

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


class PolicyNode(LifecycleNode):
    """Infers only while it owns the arm and has a fresh, complete observation."""

    def __init__(self, make_policy: Callable[[PolicyConfig], Any] = load) -> None:
        """Declares parameters.

        Args:
            make_policy: Loads the policy at configuration.
        """
        super().__init__("policy")
        self.config = declare(self, PolicyConfig, "policy_node")
        self._make_policy = make_policy
        self._policy: Any = None
        self._thread: InferenceThread | None = None
        self._model: vla_control.RobotModel | None = None
        self._chunks = RateMeter()
        self._failure = ""
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)

    # --- life cycle -------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the policy and connects it."""
        try:
            self._policy = self._make_policy(self.config)
            self._contract = make_contract(self.config, self._policy.spec)
        except (ValueError, OSError) as error:
            self._failure = f"no policy: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        self._signals = self._contract.signals()
        self._joint_topics = {self._contract.joints.topic, self._contract.gripper.topic}
        self._thread = InferenceThread(
            self._policy, self._observe, self._now_ns, self._emit, self._warm_up
        )
        self._chunk_pub = self.create_lifecycle_publisher(
            ActionChunk, "policy/action_chunk", RELIABLE
        )
        self._feature_pub = self.create_lifecycle_publisher(
            PolicyFeatures, "policy/features", RELIABLE
        )
        subscriptions = [
            (ControlOwner, "control_owner", self._on_owner, RELIABLE),
            (String, "robot_description", self._on_description, LATCHED),
        ]
        for camera in self._contract.cameras.values():
            handler = partial(self._on_sample, camera.topic)
            subscriptions.append((Image, camera.topic, handler, IMAGES))
        for topic in self._joint_topics:
            subscriptions.append((JointState, topic, partial(self._on_sample, topic), RELIABLE))
        self._inputs = [self.create_subscription(*one) for one in subscriptions]
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to infer."""
        if self._thread is not None:
            self._thread.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops to infer."""
        if self._thread is not None:
            self._thread.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of the policy and of all connections."""
        for one in self._inputs:
            self.destroy_subscription(one)
        self.destroy_lifecycle_publisher(self._chunk_pub)
        self.destroy_lifecycle_publisher(self._feature_pub)
        self._policy, self._thread, self._model = None, None, None
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stops the inference thread."""
        if self._thread is not None:
            self._thread.stop()

    # --- inputs -----------------------------------------------------------------------------------

    def _on_sample(self, topic: str, message: Any) -> None:
        self._signals[topic].append(convert.from_time(message.header.stamp), message)
        if self._thread is not None and topic not in self._joint_topics:
            self._thread.notify()

    def _on_owner(self, message: ControlOwner) -> None:
        if self._thread is None:
            return
        self._thread.assign(
            Assignment(
                active=message.state == ControlOwner.STATE_AUTONOMOUS
                and message.owner == ControlOwner.OWNER_POLICY,
                instruction=message.instruction,
                instruction_id=message.instruction_id,
                since_ns=convert.from_time(message.header.stamp),
                grant=(message.boot_id, message.grant),
            )
        )

    def _on_description(self, message: String) -> None:
        config = self.config
        try:
            self._model = vla_control.RobotModel(
                vla_control.RobotDescription(
                    urdf_xml=message.data,
                    joint_names=list(config.joint_names),
                    base_frame=config.base_frame,
                    tool_frame=config.tool_frame,
                )
            )
        except ValueError as error:
            self._model = None
            self.get_logger().error(f"robot_description: {error}")

    # --- the inference thread ---------------------------------------------------------------------

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _observe(self, now_ns: int, instruction: str) -> Observation:
        model = self._model
        if model is None:
            raise ObservationError("robot_description", "no valid one has arrived")
        return self._contract.build(self._signals, now_ns, model.forward_kinematics, instruction)

    def _warm_up(self) -> None:
        """The first inference of a process is ten times slower than the rest."""
        spec = self._policy.spec
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
        for _ in range(2):
            self._policy.act(self._policy.encode(observation), observation)
        self._policy.reset(self.config.seed)

    def _emit(self, inference: Inference) -> None:
        instruction_id = inference.assignment.instruction_id
        self._chunk_pub.publish(
            convert.to_action_chunk(
                inference.chunk,
                base_frame=self.config.base_frame,
                tool_frame=self.config.tool_frame,
                sequence=inference.sequence,
                instruction_id=instruction_id,
            )
        )
        self._chunks.tick()
        self._feature_pub.publish(
            convert.to_policy_features(
                inference.chunk,
                feature_name=self._policy.spec.feature_name,
                sequence=inference.sequence,
                instruction_id=instruction_id,
                encode_latency=inference.encode_latency,
                act_latency=inference.act_latency,
            )
        )

    # --- health -----------------------------------------------------------------------------------

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        thread = self._thread
        if thread is None or self._policy is None:
            return (ERROR, self._failure, {}) if self._failure else (OK, "not configured", {})
        told = thread.statistics
        values: dict[str, Any] = {
            "policy": self._policy.spec.policy_id,
            "inferences": told.inferences,
            "chunk rate (Hz)": self._chunks.rate(),
        }
        latencies = list(told.latencies)
        if latencies:
            values["latency median (ms)"] = 1e3 * statistics.median(latencies)
            values["latency max (ms)"] = 1e3 * max(latencies)
        for part, count in list(told.blocked.items()):
            values[f"blocked: {part}"] = count
        if told.blocked_now:
            detail = f" ({told.failure})" if told.failure else ""
            return WARN, f"no inference: {told.blocked_now}{detail}", values
        return OK, "infers" if thread.assignment.active else "waits for a grant", values


def make_contract(config: PolicyConfig, spec: Any) -> ObservationContract:
    """The observation contract of a robot (parameters) and a policy (what it looks at)."""
    return ObservationContract(
        name="policy",
        base_frame=config.base_frame,
        tool_frame=config.tool_frame,
        cameras={
            name: CameraContract(
                topic=f"cameras/{name}/image_raw",
                height=spec.image_size,
                width=spec.image_size,
                encoding="rgb8",
                tolerance=config.image_tolerance,
            )
            for name in spec.cameras
        },
        joints=JointsContract(JOINT_STATES, config.joint_names, config.joint_state_tolerance),
        gripper=GripperContract(
            config.finger_joint_states,
            config.finger_joint_names,
            config.joint_state_tolerance,
            config.finger_scale,
            config.finger_offset,
        ),
    )


def main() -> int:
    """Runs the node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
