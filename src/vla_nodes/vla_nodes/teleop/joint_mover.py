# SPDX-License-Identifier: Apache-2.0
"""Moves the joints of a running system's arm: owns it as an operator's device, sends the chunks.

Everything goes through the supervisor. The claim on the arm is repeated while the move runs, so
that the arm brakes when this process ends, however it does.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import String

import vla_control
from vla_control.joint_move import JointLimits, JointMove, joint_move
from vla_control.joint_move import present_reference as reference_joints
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, TeleopCommand
from vla_nodes import convert
from vla_nodes.node_tools import LATCHED, RELIABLE
from vla_sim import arms

APPEAR_TIMEOUT = 15.0  # s for the system to be seen
GRANT_TIMEOUT = 2.0  # s
TAKEN_TIMEOUT = 1.0  # s for the controller to follow a chunk
SETTLE_TIME = 3.0  # s for the arm to rest after the end of the move
CLAIM_PERIOD = 0.05  # s
AT_REST = 0.01  # rad/s
REACHED = 0.1  # rad; the arm is soft, and friction leaves some of it
HOLDING = ControllerState.PHASE_HOLDING


class MoveError(RuntimeError):
    """The arm was not moved to its target; the text says why."""


@dataclass(frozen=True)
class Moved:
    """How a move has ended.

    Attributes:
        joint_error: Largest distance from the target, rad.
        duration: s as planned.
    """

    joint_error: float
    duration: float


class JointMover(Node):
    """An operator's device that moves to joint targets. Its executor runs in another thread."""

    def __init__(self, **options: Any) -> None:
        """Connects; ``options`` are those of a node."""
        super().__init__("vla_move", **options)
        self.device = f"vla move ({os.getpid()})"
        self.owner: ControlOwner | None = None
        self.state: ControllerState | None = None
        self._urdf: str | None = None
        self._claimed = False
        self._changed = threading.Condition()
        self._command_pub = self.create_publisher(TeleopCommand, "teleop/command", RELIABLE)
        self._chunk_pub = self.create_publisher(ActionChunk, "teleop/action_chunk", RELIABLE)
        self.create_subscription(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_subscription(ControllerState, "controller/state", self._on_state, RELIABLE)
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)

    def move(
        self,
        target: Mapping[str, float] | None,
        *,
        robot: str | None = None,
        scaling: float | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Moved:
        """Moves the arm and waits for its end.

        Args:
            target: Joint name to position, rad; None = the arm's home.
            robot: Name of the arm, or path of its YAML; None = found by its description.
            scaling: Share of the limits, see ``vla_control.joint_move``; None = slow.
            tell: Called with what is done, in words.

        Raises:
            MoveError: It was not done; the arm brakes and holds where it is.
        """
        state, urdf = self._present()
        arm = find_arm(robot, urdf, list(state.joint_names))
        home = dict(zip(arm.joint_names, arm.home.tolist(), strict=True))
        target = home if target is None else target
        options = {} if scaling is None else {"scaling": scaling}
        model = vla_control.RobotModel(
            vla_control.RobotDescription(
                urdf_xml=urdf,
                joint_names=list(state.joint_names),
                base_frame=state.header.frame_id,
                tool_frame=state.tool_frame,
            )
        )
        limits = JointLimits.published(
            arm.limits.velocity, arm.limits.acceleration, arm.limits.jerk
        )
        claims = threading.Thread(target=self._keep_claiming, name="claim", daemon=True)
        try:
            # Once before the arm is claimed: a bad target must not stop anybody's work.
            joint_move(model, limits, state.q, target, **options)
            self._claimed = True
            claims.start()
            state = self._granted()
            q, dq = reference_joints(
                model,
                state.q,
                convert.from_pose(state.reference_pose_tool_in_base),
                convert.from_twist(state.reference_twist_tool_in_base),
            )
            move = joint_move(model, limits, q, target, dq=dq, **options)
            for name, before, after in zip(move.joint_names, q, move.positions[-1], strict=True):
                tell(f"{name}: {before:7.3f} -> {after:7.3f} rad")
            tell(f"{move.duration:.1f} s, the tool moves at {move.tool_speed:.2f} m/s at most")
            return self._drive(move, state)
        except ValueError as error:  # a bad target, or a state or description that is none
            raise MoveError(str(error)) from error
        finally:
            if self._claimed:
                self._claimed = False
                claims.join(GRANT_TIMEOUT)
                self._claim()
                # Whoever asks for the arm next must find it free.
                self._wait(lambda: not self._owns(), GRANT_TIMEOUT)

    def go_home(self) -> str:
        """Moves the arm home. Returns why not; empty = it is there."""
        try:
            self.move(None)
        except MoveError as error:
            return str(error)
        return ""

    # --- what the system says ---------------------------------------------------------------------

    def _on_owner(self, message: ControlOwner) -> None:
        with self._changed:
            self.owner = message
            self._changed.notify_all()

    def _on_state(self, message: ControllerState) -> None:
        with self._changed:
            self.state = message
            self._changed.notify_all()

    def _on_description(self, message: String) -> None:
        with self._changed:
            self._urdf = message.data
            self._changed.notify_all()

    def _keep_claiming(self) -> None:
        # Not a timer: the executor may have a queue of messages before it.
        while self._claimed and self.context.ok():
            self._claim()
            time.sleep(CLAIM_PERIOD)

    def _claim(self) -> None:
        command = TeleopCommand(device=self.device, enabled=self._claimed)
        if self.state is not None:
            command.header = self.state.header
        self._command_pub.publish(command)

    def _wait(self, predicate: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate():
                if time.monotonic() > deadline:
                    return False
                self._changed.wait(0.1)
        return True

    # --- a move, step by step ---------------------------------------------------------------------

    def _present(self) -> tuple[ControllerState, str]:
        """The controller's state and the robot's description, of an arm that is free."""
        self._wait(lambda: None not in (self.owner, self.state, self._urdf), timeout=APPEAR_TIMEOUT)
        owner, state, urdf = self.owner, self.state, self._urdf
        missing = [
            name
            for name, seen in (
                ("the supervisor's control_owner", owner),
                ("the controller's controller/state", state),
                ("robot_description", urdf),
            )
            if seen is None
        ]
        if owner is None or state is None or urdf is None:
            raise MoveError(f"nobody publishes {', '.join(missing)}; is the system up?")
        if owner.state != ControlOwner.STATE_IDLE:
            raise MoveError(f"the arm is not free: {owner.reason}")
        if state.phase in (ControllerState.PHASE_FAULT, ControllerState.PHASE_INACTIVE):
            raise MoveError("the controller is in FAULT or inactive; see supervisor/reset")
        return state, urdf

    def _owns(self) -> bool:
        owner = self.owner
        return (
            owner is not None
            and owner.state == ControlOwner.STATE_TELEOP
            and self.device in owner.reason
        )

    def _granted(self) -> ControllerState:
        """Waits for the grant; the first state of the controller under it."""
        if not self._wait(self._owns, GRANT_TIMEOUT):
            reason = self.owner.reason if self.owner else "the supervisor is silent"
            raise MoveError(f"the supervisor did not grant the arm: {reason}")
        owner, found = self.owner, []
        if owner is not None and owner.episode_id:
            raise MoveError("a task has begun meanwhile; the arm goes back to it")

        def known() -> bool:
            state = self.state
            if state is None or owner is None:
                return False
            later = convert.from_time(state.header.stamp) >= convert.from_time(owner.header.stamp)
            if later and (state.boot_id, state.grant) == (owner.boot_id, owner.grant):
                found.append(state)
            return bool(found)

        if not self._wait(known, GRANT_TIMEOUT):
            raise MoveError("the controller does not know the grant")
        return found[0]

    def _drive(self, move: JointMove, start: ControllerState) -> Moved:
        """Sends the chunks when they are due and waits until the arm rests."""
        epoch = (start.boot_id, start.grant)
        began_ns = convert.from_time(start.header.stamp)
        for sequence, chunk in enumerate(move.chunks(), start=1):
            self._until(epoch, began_ns, chunk.send_at)
            self._chunk_pub.publish(
                convert.to_joint_chunk(
                    began_ns + round(1e9 * chunk.begin),
                    chunk.values,
                    joint_names=move.joint_names,
                    step_dt=move.step_dt,
                    base_frame=start.header.frame_id,
                    tool_frame=start.tool_frame,
                    sequence=sequence,
                    policy_id=self.device,
                )
            )
            if not self._wait(lambda n=sequence: self._follows(epoch, n), TAKEN_TIMEOUT):
                why = self._check(epoch).last_reject_reason
                reason = convert.known(vla_control.RejectReason, why, vla_control.RejectReason.NONE)
                raise MoveError(
                    f"the controller did not follow chunk {sequence}; "
                    f"the last that it rejected was {reason.name}"
                )
        self._until(epoch, began_ns, move.duration)
        rests = self._wait(self._rests, SETTLE_TIME)
        errors = np.abs(np.array(self._check(epoch).q) - move.positions[-1])
        worst = int(errors.argmax())
        if not rests or errors[worst] > REACHED:
            raise MoveError(
                f"{move.joint_names[worst]} is {errors[worst]:.3f} rad from its target and the arm "
                f"{'rests' if rests else 'does not rest'}: is something in its way?"
            )
        return Moved(float(errors[worst]), move.duration)

    def _follows(self, epoch: tuple[int, int], sequence: int) -> bool:
        state = self.state
        return state is not None and (state.boot_id, state.grant, state.sequence) == (
            *epoch,
            sequence,
        )

    def _rests(self) -> bool:
        state = self.state
        return state is not None and state.phase == HOLDING and max(map(abs, state.dq)) < AT_REST

    def _check(self, epoch: tuple[int, int]) -> ControllerState:
        """The controller's state, if the arm is still ours."""
        owner, state = self.owner, self.state
        if owner is None or state is None or (owner.boot_id, owner.grant) != epoch:
            raise MoveError(f"lost the arm: {owner.reason if owner else 'no supervisor'}")
        if state.phase == ControllerState.PHASE_FAULT:
            raise MoveError("the controller is in FAULT")
        return state

    def _until(self, epoch: tuple[int, int], began_ns: int, after: float) -> None:
        """Waits for a moment of the move, in the controller's time."""
        due_ns = began_ns + round(1e9 * after)
        while True:
            state = self._check(epoch)
            stamp_ns = convert.from_time(state.header.stamp)
            if stamp_ns >= due_ns:
                return
            if not self._wait(lambda seen=state: self.state is not seen, TAKEN_TIMEOUT):
                raise MoveError("the controller is silent")


def find_arm(robot: str | None, urdf: str, joint_names: list[str]) -> arms.ArmDescription:
    """The arm's limits and home.

    Raises:
        MoveError: None or more than one fits; the text lists the names.
    """
    try:
        if robot is not None:
            arm = arms.find(robot)
            if list(arm.joint_names) != joint_names:
                raise MoveError(
                    f"{robot} has the joints {', '.join(arm.joint_names)}, "
                    f"the controller {', '.join(joint_names)}"
                )
            return arm
        known = [arms.find(name) for name in arms.names()]
    except arms.ArmError as error:
        raise MoveError(str(error)) from error
    fitting = [arm for arm in known if list(arm.joint_names) == joint_names]
    same = [arm for arm in fitting if arm.urdf_xml == urdf] or fitting
    if len(same) != 1:
        names = ", ".join(arm.name for arm in same or known)
        raise MoveError(f"say which arm it is with --robot; {names}, or the path of a YAML")
    return same[0]
