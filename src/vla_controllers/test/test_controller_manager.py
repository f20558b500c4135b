# SPDX-License-Identifier: Apache-2.0
"""The plugin in a real controller manager, in real time, on an arm of rigid bodies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_prefix
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner

URDF = Path(__file__).resolve().parents[3] / "urdf" / "urdf" / "fr3.urdf"
JOINTS = [f"fr3_joint{i}" for i in range(1, 8)]
HOME = [0.0, -0.13, 0.0, -2.38, 0.0, 2.25, 0.785]
RATE = 200  # Hz; slow machines must keep up
TIMEOUT = 30.0  # s

PARAMETERS = {
    "type": "vla_controllers/CartesianController",
    "joints": JOINTS,
    "base_frame": "fr3_link0",
    "tool_frame": "fr3_link8",
    "control_rate": float(RATE),
    "command_interfaces": ["effort"],
    "command_includes_gravity": False,
    "effort_state": "total",
    "rotor_inertia": [0.1] * 7,
    "heartbeat_timeout": 1.0,
    "clock_jump_periods": 1000,
    # Busy machines may keep the thread that watches waiting.
    "barrier": {"distance_braking": 4.0, "distance_stale": 0.25},
    "collision": {
        "home": HOME,
        # The cylinders of this URDF overlap at the joints.
        "may_touch": [
            *("fr3_link0", "fr3_link2", "fr3_link2", "fr3_link4"),
            *("fr3_link4", "fr3_link6", "fr3_link4", "fr3_link7"),
        ],
    },
    "obstacles": ["table"],
    "obstacle": {"table": {"position": [0.0, 0.0, 0.2]}},
}


def description(fault_file: Path) -> str:
    """The URDF of the arm with the hardware for tests, which fails as the file says."""
    joints = "".join(
        f'<joint name="{name}"><command_interface name="effort"/>'
        f'<state_interface name="position"><param name="initial_value">{position}</param>'
        '</state_interface><state_interface name="velocity"/><state_interface name="effort"/>'
        "</joint>"
        for name, position in zip(JOINTS, HOME, strict=True)
    )
    control = (
        '<ros2_control name="arm" type="system"><hardware>'
        "<plugin>vla_controllers_test/RigidArm</plugin>"
        '<param name="base_frame">fr3_link0</param><param name="tool_frame">fr3_link8</param>'
        f'<param name="fault_file">{fault_file}</param>'
        "</hardware>"
        f"{joints}</ros2_control>"
    )
    return URDF.read_text().replace("</robot>", f"{control}</robot>")


class Bench:
    """A node that talks to the controller manager and to the controller."""

    def __init__(self, services: Any, program: list[Any], folder: Path) -> None:
        """Starts the program and publishes the robot's description and the heartbeat."""
        self.services = services
        self._program = program
        self._folder = folder
        self.fault_file = folder / "fault"
        self.node = rclpy.create_node("bench")
        self.state = ControllerState()
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._description = self.node.create_publisher(String, "robot_description", latched)
        self._description.publish(String(data=description(self.fault_file)))
        self.chunks = self.node.create_publisher(ActionChunk, "controller/action_chunk", 10)
        self._owner = self.node.create_publisher(ControlOwner, "control_owner", 10)
        self.node.create_subscription(ControllerState, "controller/state", self._on_state, 100)
        self.node.create_timer(0.05, self._beat)
        self.start()

    def start(self) -> None:
        """Starts the controller manager."""
        with (self._folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(
                self._program,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ROS_LOG_DIR": str(self._folder)},
            )

    def close(self) -> None:
        """Ends everything and shows what the controller manager has logged."""
        self.node.destroy_node()
        self.process.terminate()
        self.process.wait(timeout=20.0)
        print((self._folder / "log.txt").read_text())

    def _on_state(self, message: ControllerState) -> None:
        self.state = message

    def _beat(self) -> None:
        self._owner.publish(ControlOwner(boot_id=1, grant=1))

    def until(self, predicate: Callable[[], bool]) -> bool:
        """Spins until the predicate holds; False if it does not in time."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if predicate():
                return True
            rclpy.spin_once(self.node, timeout_sec=0.05)
        return False

    def spin(self, seconds: float) -> None:
        """Spins for a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Calls a service and returns its response."""
        client = self.node.create_client(kind, name)
        assert self.until(client.service_is_ready), f"{name} is not there"
        future = client.call_async(request)
        assert self.until(future.done), f"{name} does not answer"
        return future.result()

    def load(self, name: str) -> bool:
        """Loads a controller."""
        kind = self.services.LoadController
        request = kind.Request(name=name)
        return self.call(kind, "controller_manager/load_controller", request).ok

    def configure(self, name: str) -> bool:
        """Configures a controller."""
        kind = self.services.ConfigureController
        request = kind.Request(name=name)
        return self.call(kind, "controller_manager/configure_controller", request).ok

    def switch(self, **controllers: list[str]) -> bool:
        """Activates and deactivates controllers."""
        kind = self.services.SwitchController
        request = kind.Request(strictness=kind.Request.STRICT)
        for field, names in controllers.items():
            setattr(request, field, names)
        return self.call(kind, "controller_manager/switch_controller", request).ok

    def chunk(self, sequence: int) -> ActionChunk:
        """A slow motion along y from where the tool is, observed now."""
        message = ActionChunk(tool_frame="fr3_link8", boot_id=1, grant=1, sequence=sequence)
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = "fr3_link0"
        message.step_dt = 0.1
        start = self.state.pose_tool_in_base
        for step in range(16):
            pose = type(start)()
            pose.orientation = start.orientation
            pose.position.x, pose.position.z = start.position.x, start.position.z
            s = step / 15
            pose.position.y = start.position.y + 0.03 * s**3 * (10 - 15 * s + 6 * s**2)
            message.poses.append(pose)
        return message


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench beside a running controller manager."""
    services = pytest.importorskip(
        "controller_manager_msgs.srv", reason="ros2_control is not installed"
    )
    controllers = {
        "controller": PARAMETERS,
        "broken": {**PARAMETERS, "tool_frame": "hand"},
        "mistaken": {**PARAMETERS, "effort_state": "gravity_free"},
    }
    files = {}
    for name, parameters in controllers.items():
        files[name] = tmp_path / f"{name}.yaml"
        rest = {key: value for key, value in parameters.items() if key != "type"}
        files[name].write_text(yaml.safe_dump({name: {"ros__parameters": rest}}))
    manager: dict[str, Any] = {"update_rate": RATE}
    for name, parameters in controllers.items():
        manager[f"{name}.type"] = parameters["type"]
        manager[f"{name}.params_file"] = [str(files[name])]
    path = tmp_path / "manager.yaml"
    path.write_text(yaml.safe_dump({"controller_manager": {"ros__parameters": manager}}))
    program = Path(get_package_prefix("controller_manager"), "lib/controller_manager")
    command = [program / "ros2_control_node", "--ros-args", "--params-file", path]
    rclpy.init()
    bench = Bench(services, command, tmp_path)
    try:
        yield bench
    finally:
        bench.close()
        rclpy.shutdown()


def hold(bench: Bench) -> None:
    """Brings the arm into a hold under a grant."""
    assert bench.load("controller")
    assert bench.configure("controller")
    assert bench.switch(activate_controllers=["controller"])
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_HOLDING)
    assert list(bench.state.joint_names) == JOINTS
    assert list(bench.state.q) == pytest.approx(HOME, abs=1e-3)
    assert bench.until(lambda: bench.state.grant == 1 and not bench.state.unmonitored)
    assert 0.05 < bench.state.smallest_distance < 0.2


def move(bench: Bench) -> None:
    """Has the arm follow a chunk, until it is at full speed."""
    bench.chunks.publish(bench.chunk(1))
    assert bench.until(lambda: abs(bench.state.twist_tool_in_base.linear.y) > 0.025)
    assert bench.state.phase == ControllerState.PHASE_TRACKING


def activate_hardware(bench: Bench) -> bool:
    """Activates the arm's hardware."""
    kind = bench.services.SetHardwareComponentState
    request = kind.Request(name="arm")
    request.target_state.label = "active"
    return bench.call(kind, "controller_manager/set_hardware_component_state", request).ok


def test_a_chunk_is_followed_and_a_stop_holds(bench: Bench) -> None:
    hold(bench)

    start = bench.state.pose_tool_in_base.position.y
    bench.chunks.publish(bench.chunk(1))
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_TRACKING)
    assert bench.state.sequence == 1
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_HOLDING)
    assert bench.state.chunks_rejected == 0
    resting = lambda: max(abs(speed) for speed in bench.state.dq) < 1e-3  # noqa: E731
    assert bench.until(resting)
    moved = bench.state.pose_tool_in_base.position.y - start
    assert moved == pytest.approx(0.03, abs=1e-3)

    assert bench.call(Trigger, "controller/stop", Trigger.Request()).success
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_FAULT)
    assert bench.state.fault == ControllerState.FAULT_STOP_REQUESTED
    assert bench.call(Trigger, "controller/reset", Trigger.Request()).success
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_HOLDING)

    assert bench.switch(deactivate_controllers=["controller"])
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_INACTIVE)


def test_what_is_wrong_is_refused(bench: Bench) -> None:
    assert bench.load("broken")
    assert not bench.configure("broken")
    # The arm reports its torque with gravity: without it, a resting arm could not be so loaded.
    assert bench.load("mistaken")
    assert bench.configure("mistaken")
    assert not bench.switch(activate_controllers=["mistaken"])


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_hardware_error_deactivates_and_nothing_resumes_by_itself(
    bench: Bench, call: str
) -> None:
    hold(bench)
    move(bench)
    bench.fault_file.write_text(call)
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_INACTIVE)
    bench.fault_file.unlink()
    # Nothing comes back without being asked to, though the fault has gone.
    bench.spin(0.5)
    assert bench.state.phase == ControllerState.PHASE_INACTIVE

    assert activate_hardware(bench)
    assert bench.switch(activate_controllers=["controller"])
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_HOLDING)
    assert bench.until(lambda: max(map(abs, bench.state.dq)) < 1e-3)
    assert bench.state.sequence == 0


def test_an_arm_deactivated_in_motion_gets_no_torque_and_does_not_resume(bench: Bench) -> None:
    hold(bench)
    move(bench)
    assert bench.switch(deactivate_controllers=["controller"])
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_INACTIVE)
    left = bench.state.pose_tool_in_base.position.y  # of the last cycle
    bench.spin(0.5)

    assert bench.switch(activate_controllers=["controller"])
    assert bench.until(lambda: bench.state.phase == ControllerState.PHASE_HOLDING)
    # Without friction nothing has braked it: it has gone on at its 25 mm/s or more.
    assert bench.state.pose_tool_in_base.position.y > left + 0.01
    assert bench.until(lambda: max(map(abs, bench.state.dq)) < 1e-3)
    # The chunk is forgotten.
    assert bench.state.sequence == 0
    assert bench.state.phase == ControllerState.PHASE_HOLDING


def test_a_killed_process_is_silent_and_its_successor_starts_in_a_hold(bench: Bench) -> None:
    hold(bench)
    move(bench)
    chunk = bench.chunk(2)
    bench.process.kill()
    assert bench.process.wait(timeout=10.0) == -signal.SIGKILL
    bench.spin(0.5)  # what was under way
    bench.state = ControllerState()
    # DDS takes the dead for living until its lease has run out (20 s): a call would go to it.
    kind = bench.services.LoadController
    client = bench.node.create_client(kind, "controller_manager/load_controller")
    assert bench.until(lambda: not client.service_is_ready())
    assert bench.state.cycles == 0, "nobody speaks for a dead controller"

    bench.start()
    hold(bench)
    # What was observed before the new controller lived is not followed.
    bench.chunks.publish(chunk)
    assert bench.until(lambda: bench.state.chunks_rejected == 1)
    assert bench.state.phase == ControllerState.PHASE_HOLDING
