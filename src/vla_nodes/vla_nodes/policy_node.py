# SPDX-License-Identifier: Apache-2.0
"""policy_node: observations in, chunks and features out; the policy runs in its own thread."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

import vla_control
from vla_data.observation import Observation, ObservationError
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, PolicyFeatures
from vla_msgs.srv import LoadPolicy
from vla_nodes import convert
from vla_nodes.configs import PolicyConfig
from vla_nodes.convert.failure import to_policy_features
from vla_nodes.inference.fast import FastInferenceThread
from vla_nodes.inference.setup import load, make_contract, make_schedule, running, warm_up
from vla_nodes.inference.swap import load_and_swap
from vla_nodes.inference.worker import Assignment, Inference, InferenceThread
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
from vla_nodes.supervision.policy_time import valid_speed
from vla_policy.memory import keep_memory

SILENCE = 1.0  # s without a chunk, while the policy owns the arm, after which that is reported
# s until a callback that wants the interpreter gets it from an inference. Python's own 5 ms let
# callbacks wait for up to 8 ms, this for up to 4.
SWITCH_INTERVAL = 0.0005


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
        self._thread: InferenceThread | None = None
        self._loading: threading.Thread | None = None
        self._model: vla_control.RobotModel | None = None
        self._state_model: vla_control.RobotModel | None = None
        self._chunks = RateMeter()
        self._failure = ""
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)

    # --- life cycle -------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the policy and connects it."""
        try:
            policy = self._make_policy(self.config)
            self._contract = make_contract(self.config, policy.spec)
            self._thread = self._make_thread(policy)
        except (ValueError, OSError) as error:
            self._failure = f"no policy: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        self._signals = self._contract.signals()
        self._joint_topics = {self._contract.joints.topic, self._contract.gripper.topic}
        self._chunk_pub = self.create_lifecycle_publisher(
            ActionChunk, "policy/action_chunk", RELIABLE
        )
        self._feature_pub = self.create_lifecycle_publisher(
            PolicyFeatures, "policy/features", RELIABLE
        )
        subscriptions = [
            (ControlOwner, "control_owner", self._on_owner, RELIABLE),
            (ControllerState, "controller/state", self._on_controller, RELIABLE),
            (String, "robot_description", self._on_description, LATCHED),
        ]
        for camera in self._contract.cameras.values():
            handler = partial(self._on_sample, camera.topic)
            subscriptions.append((Image, camera.topic, handler, IMAGES))
        for topic in self._joint_topics:
            subscriptions.append((JointState, topic, partial(self._on_sample, topic), RELIABLE))
        self._inputs = [self.create_subscription(*one) for one in subscriptions]
        # It waits for seconds: in a group of its own, or every other callback would wait too.
        self._load_service = self.create_service(
            LoadPolicy, "~/load", self._on_load, callback_group=ReentrantCallbackGroup()
        )
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
        self.destroy_service(self._load_service)
        self._thread, self._model, self._state_model = None, None, None
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
                speed=valid_speed(message.speed),
                speed_since_ns=convert.from_time(message.header.stamp),
            )
        )

    def _on_controller(self, message: ControllerState) -> None:
        if self._thread is not None and message.sequence > 0 and message.chunk_age >= 0.0:
            self._thread.consumed(message.sequence, message.chunk_age)

    def _on_description(self, message: String) -> None:
        config = self.config
        try:
            description = vla_control.RobotDescription(
                urdf_xml=message.data,
                joint_names=list(config.joint_names),
                base_frame=config.base_frame,
                tool_frame=config.tool_frame,
            )
            # A model is for one thread; with an act_rate there are two.
            self._model = vla_control.RobotModel(description)
            self._state_model = vla_control.RobotModel(description)
        except ValueError as error:
            self._model, self._state_model = None, None
            self.get_logger().error(f"robot_description: {error}")

    # --- another policy ---------------------------------------------------------------------------

    async def _on_load(
        self, request: LoadPolicy.Request, response: LoadPolicy.Response
    ) -> LoadPolicy.Response:
        thread = self._thread
        if thread is None or (self._loading is not None and self._loading.is_alive()):
            response.message = "not configured" if thread is None else "another is being loaded"
            return response
        config = replace(self.config, checkpoint=request.checkpoint)
        done: Future = Future(executor=self.executor)
        # In a thread of its own: the present policy and the executor go on meanwhile.
        self._loading = threading.Thread(
            target=lambda: done.set_result(
                load_and_swap(
                    lambda: self._make_policy(config),
                    lambda policy: warm_up(policy, config.seed),
                    thread,
                )
            ),
            name="loading",
            daemon=True,
        )
        self._loading.start()
        response.success, response.message = await done
        response.policy_id = thread.policy.spec.policy_id
        if response.success:
            self.get_logger().info(response.message)
        else:
            self.get_logger().error(response.message)
        return response

    # --- the inference thread ---------------------------------------------------------------------

    def _make_thread(self, policy: Any) -> InferenceThread:
        config = self.config
        schedule = make_schedule(config, policy, lambda: self._model)
        parts = (policy, schedule, self._observe, self._now_ns, self._emit)

        def prepare() -> None:
            warm_up(policy, config.seed)

        if config.act_rate == 0.0:
            return InferenceThread(*parts, prepare)
        return FastInferenceThread(
            *parts,
            prepare,
            observe_state=self._observe_state,
            act_rate=config.act_rate,
            max_context_age=config.context_max_age,
        )

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _observe(self, now_ns: int, instruction: str) -> Observation:
        model = self._model
        if model is None:
            raise ObservationError("robot_description", "no valid one has arrived")
        return self._contract.build(self._signals, now_ns, model.forward_kinematics, instruction)

    def _observe_state(self, now_ns: int) -> Observation:
        model = self._state_model
        if model is None:
            raise ObservationError("robot_description", "no valid one has arrived")
        contract = replace(self._contract, cameras={})
        return contract.build(self._signals, now_ns, model.forward_kinematics, "")

    def _emit(self, inference: Inference) -> None:
        chunk = convert.to_action_chunk(
            inference.chunk,
            base_frame=self.config.base_frame,
            tool_frame=self.config.tool_frame,
            joint_names=self.config.joint_names,
            sequence=inference.sequence,
            instruction_id=inference.assignment.instruction_id,
        )
        self._chunk_pub.publish(chunk)
        self._chunks.tick()
        self._feature_pub.publish(
            to_policy_features(
                inference.chunk,
                chunk,
                state=inference.state,
                running=running(self.config, inference.policy, inference.delay),
                encode_latency=inference.encode_latency,
                act_latency=inference.act_latency,
                context_age=inference.context_age,
            )
        )

    # --- health -----------------------------------------------------------------------------------

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        thread = self._thread
        if thread is None:
            return (ERROR, self._failure, {}) if self._failure else (OK, "not configured", {})
        told = thread.statistics
        values: dict[str, Any] = {
            "policy": thread.policy.spec.policy_id,
            "inferences": told.inferences,
            "late chunks": told.late,
            "context age (s)": told.context_age,
            "chunk rate (Hz)": self._chunks.rate(),
        }
        latencies = list(told.latencies)
        if latencies:
            values["latency median (ms)"] = 1e3 * statistics.median(latencies)
            values["latency max (ms)"] = 1e3 * max(latencies)
        for part, count in list(told.blocked.items()):
            values[f"blocked: {part}"] = count
        if told.failure:
            values["last failure"] = told.failure
        if told.blocked_now:
            return WARN, f"no inference: {told.blocked_now}", values
        since = told.waiting_since
        if since is not None and time.monotonic() - since > SILENCE:
            return WARN, f"no chunk for {time.monotonic() - since:.1f} s", values
        return OK, "infers" if thread.assignment.active else "waits for a grant", values


def main() -> int:
    """Runs the node."""
    keep_memory()
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
