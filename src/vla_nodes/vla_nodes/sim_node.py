# SPDX-License-Identifier: Apache-2.0
"""sim_node: a simulated robot with the controller inside, in real time, as an arm would appear.

Plant and controller run in a C++ thread of `vla_sim`. Here, one thread publishes states as the
simulated time goes by, one draws images while somebody looks at them, and the executor takes
commands. Every stamp is the simulated time the message describes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

import vla_control
from vla_msgs.msg import ActionChunk, ControllerState, ControlOwner, TaskStatus
from vla_msgs.srv import ResetScene
from vla_nodes import convert
from vla_nodes.configs import SimConfig
from vla_nodes.link_poses import LinkTree, camera_frame
from vla_nodes.node_tools import (
    CLOCK,
    IMAGES,
    LATCHED,
    OK,
    RELIABLE,
    WARN,
    Diagnostics,
    EssentialThread,
    RateMeter,
    run,
)
from vla_nodes.parameters import declare
from vla_sim.experts import STEP_DT, make_expert
from vla_sim.simulation import Simulation

SECOND = 1_000_000_000
LOOP_PRIORITY = 20  # of SCHED_FIFO
SLOW = 0.95  # share of the wanted speed below which the simulation is reported as slow
EXPERT_RATE = 10.0  # Hz of simulated time


class SimNode(Node):
    """Publishes what a robot and its cameras would, and takes the controller's input."""

    def __init__(self) -> None:
        """Builds the scene and starts it."""
        super().__init__("sim")
        config = self.config = declare(self, SimConfig, "sim_node")
        if config.viewer and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError("viewer needs a display; DISPLAY and WAYLAND_DISPLAY are not set")
        self._sim = Simulation(
            config.robot,
            config.task,
            config.seed,
            cameras=config.cameras,
            image_size=config.image_size,
            suite=config.suite,
            controller_overrides={
                "heartbeat_timeout_s": config.heartbeat_timeout,
                "chunk__accept_joint_positions": True,
                "chunk__accept_twists": True,
            },
        )
        self._expert = make_expert(self._sim)
        robot = self._sim.robot
        self._tree = LinkTree(self._sim.model, robot.base_frame, robot.finger_joint_names[0])
        self._frames = {"base_frame": robot.base_frame, "tool_frame": robot.tool_frame}
        self._episode_id = f"{config.task}-{config.seed}"
        self._episodes = 0
        self._laid_ns = 0
        self._state_ns = -1
        self._overruns = 0
        self._rejected: Counter[str] = Counter()
        self._image_rate = RateMeter()
        self._running = True
        # Held by whoever reads the scene; laying it anew takes both.
        self._state_lock, self._render_lock = threading.Lock(), threading.Lock()
        self._create_publishers()
        self._create_inputs()
        self._publish_latched()
        self._start_loop()
        self._threads = [
            EssentialThread(target=target, name=name, daemon=True)
            for name, target in (("states", self._run_states), ("cameras", self._run_cameras))
        ]
        for thread in self._threads:
            thread.start()
        self._diagnostics = Diagnostics(
            self, config.diagnostics_rate, self._health, lambda: self._sim.time_ns
        )

    def _start_loop(self) -> None:
        """Starts real time, with the priority a controller's loop has on a robot if allowed.

        No other thread of this process starts threads meanwhile, so the new one is the loop.
        """
        before = set(os.listdir("/proc/self/task"))
        self._sim.start_realtime(self.config.speed)
        for thread in set(os.listdir("/proc/self/task")) - before:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(LOOP_PRIORITY))

    def _create_publishers(self) -> None:
        create = self.create_publisher
        self._clock_pub = create(Clock, "/clock", CLOCK)
        self._joint_pub = create(JointState, "joint_states", RELIABLE)
        self._tf_pub = create(TFMessage, "/tf", RELIABLE)
        self._tf_static_pub = create(TFMessage, "/tf_static", LATCHED)
        self._description_pub = create(String, "robot_description", LATCHED)
        self._state_pub = create(ControllerState, "controller/state", RELIABLE)
        self._task_pub = create(TaskStatus, "task/status", RELIABLE)
        # Hidden, so that no bag has it: no policy may see what knows where everything is.
        self._expert_pub = create(ActionChunk, "sim/_expert", RELIABLE)
        self._camera_pubs = {
            camera: (
                create(Image, f"cameras/{camera}/image_raw", IMAGES),
                create(CameraInfo, f"cameras/{camera}/camera_info", RELIABLE),
            )
            for camera in self.config.cameras
        }

    def _create_inputs(self) -> None:
        subscribe = self.create_subscription
        subscribe(ActionChunk, "controller/action_chunk", self._on_chunk, RELIABLE)
        subscribe(ControlOwner, "control_owner", self._on_owner, RELIABLE)
        self.create_service(Trigger, "controller/stop", self._on_stop)
        self.create_service(Trigger, "controller/reset", self._on_reset)
        self.create_service(ResetScene, "sim/reset_scene", self._on_reset_scene)

    def _publish_latched(self) -> None:
        """Publishes what stays the same as long as the scene does."""
        self._description_pub.publish(String(data=self._sim.robot.urdf_xml))
        stamp_ns = self._sim.time_ns
        poses = self._tree.fixed(self._sim.qpos(), self.config.cameras)
        self._tf_static_pub.publish(
            TFMessage(transforms=[convert.to_transform(stamp_ns, *pose) for pose in poses])
        )
        size = self.config.image_size
        self._camera_infos = {
            camera: convert.pinhole(size, size, self._tree.vertical_fov(camera))
            for camera in self.config.cameras
        }

    def close(self) -> None:
        """Stops the threads and the simulation."""
        self._running = False
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._sim.stop_realtime()

    # --- commands ---------------------------------------------------------------------------------

    def _on_chunk(self, message: ActionChunk) -> None:
        try:
            chunk = convert.from_action_chunk(message, **self._frames)
        except convert.ConversionError as error:
            self._rejected[error.reason.name] += 1
            self.get_logger().warning(f"chunk {message.sequence} rejected: {error}")
            return
        reason = self._sim.push_chunk(chunk)
        if reason != vla_control.RejectReason.NONE:
            self._rejected[reason.name] += 1
            self.get_logger().warning(f"chunk {message.sequence} rejected: {reason.name}")

    def _on_owner(self, message: ControlOwner) -> None:
        convert.pass_heartbeat(message, self._sim.controller, self._sim.time_ns)

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._sim.controller.stop()
        response.success, response.message = True, "stopped; only a reset releases"
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._sim.controller.reset()
        response.success, response.message = True, "released"
        return response

    def _on_reset_scene(
        self, request: ResetScene.Request, response: ResetScene.Response
    ) -> ResetScene.Response:
        with self._state_lock, self._render_lock:
            self._sim.stop_realtime()
            self._overruns += self._sim.overruns  # starts anew with the thread
            try:
                self._sim.reset(request.task, request.seed, keep_clock=True)
                response.success, response.message = True, f"laid {request.task}"
            except ValueError as error:
                response.success, response.message = False, str(error)
            else:
                self._episodes += 1
                started = time.strftime("%Y%m%d-%H%M%S")
                suite = "" if self.config.suite == "basic" else f"-{self.config.suite}"
                number = f"{started}-{self._episodes:03d}"
                self._episode_id = f"{number}-{request.task}{suite}-{request.seed}"
                self._laid_ns = self._sim.time_ns
                self._publish_latched()
            self._start_loop()
        response.instruction = self._sim.instruction
        response.episode_id = self._episode_id
        return response

    # --- states -----------------------------------------------------------------------------------

    def _run_states(self) -> None:
        config = self.config
        period_ns = round(SECOND / config.joint_state_rate)
        every = {
            name: max(1, round(config.joint_state_rate / rate))
            for name, rate in (
                ("tf", config.tf_rate),
                ("controller", config.controller_state_rate),
                ("task", config.task_status_rate),
                ("expert", EXPERT_RATE),
            )
        }
        viewer = self._open_viewer() if config.viewer else None
        last_tick = -1
        while self._running:
            time_ns = self._sim.time_ns
            tick = time_ns // period_ns
            if tick == last_tick:
                time.sleep(max(0.0005, ((tick + 1) * period_ns - time_ns) * 1e-9))
                continue
            last_tick = tick
            with self._state_lock:
                self._publish_joints(tick % every["tf"] == 0)
                if tick % every["controller"] == 0:
                    self._publish_controller()
                if tick % every["task"] == 0:
                    self._publish_task()
                if tick % every["expert"] == 0 and self._expert_pub.get_subscription_count():
                    self._publish_expert()
            if viewer is not None and tick % every["tf"] == 0:
                self._show(viewer)
        if viewer is not None:
            viewer.close()

    def _publish_joints(self, with_tf: bool) -> None:
        snapshot = self._sim.cycle_snapshot()
        robot, stamp_ns = self._sim.robot, int(snapshot.time_ns)
        names = (*robot.joint_names, *robot.finger_joint_names)
        model = self._sim.model
        position = [snapshot.qpos[model.joint(name).qposadr[0]] for name in names]
        velocity = [snapshot.qvel[model.joint(name).dofadr[0]] for name in names]
        self._clock_pub.publish(Clock(clock=convert.to_time(stamp_ns)))
        self._joint_pub.publish(convert.to_joint_state(stamp_ns, names, position, velocity))
        if with_tf:
            poses = self._tree.moving(snapshot.qpos)
            self._tf_pub.publish(
                TFMessage(transforms=[convert.to_transform(stamp_ns, *pose) for pose in poses])
            )

    def _publish_controller(self) -> None:
        robot = self._sim.robot
        state = self._sim.controller.state()
        if state.time_ns == self._state_ns:
            return  # this thread was late for the tick before, and has told this cycle then
        self._state_ns = state.time_ns
        self._state_pub.publish(
            convert.to_controller_state(
                state, int(state.time_ns), robot.base_frame, robot.tool_frame, robot.joint_names
            )
        )

    def _publish_task(self) -> None:
        judgement = self._sim.judge()
        stamp_ns = self._sim.time_ns
        self._task_pub.publish(
            convert.to_task_status(
                stamp_ns,
                episode_id=self._episode_id,
                task=self._sim.task,
                suite=self.config.suite,
                seed=self._sim.seed,
                success=judgement.success,
                elapsed=(stamp_ns - self._laid_ns) / SECOND,
                details=judgement.details,
            )
        )

    def _publish_expert(self) -> None:
        """What the scripted expert would do from here; for `vla teleop --expert`."""
        stamp_ns = self._sim.time_ns
        poses, openings = self._expert.plan(self._sim)
        message = convert.to_pose_chunk(stamp_ns, poses, step_dt=STEP_DT, **self._frames)
        message.gripper_opening = openings.tolist()
        self._expert_pub.publish(message)

    # --- cameras ----------------------------------------------------------------------------------

    def _run_cameras(self) -> None:
        period_ns = round(SECOND / self.config.camera_rate)
        last_tick = -1
        while self._running:
            time_ns = self._sim.time_ns
            tick = time_ns // period_ns
            if tick == last_tick:
                time.sleep(max(0.001, ((tick + 1) * period_ns - time_ns) * 1e-9))
                continue
            last_tick = tick
            with self._render_lock:
                self._publish_images()
        self._sim.close()

    def _publish_images(self) -> None:
        snapshot = self._sim.cycle_snapshot()
        stamp_ns = int(snapshot.time_ns)
        for camera, (image_pub, info_pub) in self._camera_pubs.items():
            info = self._camera_infos[camera]
            info.header = convert.header(stamp_ns, camera_frame(camera))
            info_pub.publish(info)
            # Drawing is the dearest thing this node does: only when somebody looks.
            if image_pub.get_subscription_count() == 0:
                continue
            rgb = self._sim.render(camera, qpos=snapshot.qpos)
            image_pub.publish(convert.to_image(stamp_ns, camera_frame(camera), rgb))
            self._image_rate.tick()

    def _open_viewer(self) -> Any:
        import mujoco
        import mujoco.viewer

        self._viewer_data = mujoco.MjData(self._sim.model)
        return mujoco.viewer.launch_passive(
            self._sim.model, self._viewer_data, show_left_ui=False, show_right_ui=False
        )

    def _show(self, viewer: Any) -> None:
        import mujoco

        self._viewer_data.qpos[:] = self._sim.qpos()
        self._viewer_data.mocap_pos[:] = self._sim.data.mocap_pos
        mujoco.mj_forward(self._sim.model, self._viewer_data)
        viewer.sync()

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        factor = self._sim.realtime_factor
        values: dict[str, Any] = {
            "real-time factor": factor,
            "overruns": self._overruns + self._sim.overruns,
            "image rate (Hz)": self._image_rate.rate(),
        }
        for name, count in list(self._rejected.items()):
            values[f"rejected: {name}"] = count
        if factor < SLOW * self.config.speed:
            return WARN, f"slower than {self.config.speed:g} of real time: {factor:.2f}", values
        return OK, f"{self._sim.task}, seed {self._sim.seed}", values


def main() -> int:
    """Runs the node."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
