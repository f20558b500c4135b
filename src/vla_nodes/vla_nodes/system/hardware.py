# SPDX-License-Identifier: Apache-2.0
"""What moves the arm of a launch file, what that needs installed, and how it is described."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ament_index_python.resources import has_resource

from vla_nodes.system.description import SIMULATED, SystemDescriptionError

AUTO = "auto"
MUJOCO = "mujoco"
CHOICES = (AUTO, MUJOCO, SIMULATED)

_PLUGINS = "controller_interface__pluginlib__plugin"
# Entries of the ament index, by kind: a package may be installed without its plugin.
_NEEDS = (
    ("packages", "mujoco_ros2_control"),
    ("packages", "controller_manager"),
    ("packages", "robot_state_publisher"),
    (_PLUGINS, "joint_state_broadcaster"),
    (_PLUGINS, "parallel_gripper_controller"),
    (_PLUGINS, "vla_controllers"),
)


def choose(asked: str) -> tuple[str, str]:
    """The hardware that is started, and a line that says why.

    Args:
        asked: One of ``CHOICES``.

    Raises:
        SystemDescriptionError: ros2_control is asked for, but something of it is missing.
    """
    missing = [name for kind, name in _NEEDS if not has_resource(kind, name)]
    if asked == SIMULATED:
        return SIMULATED, "The arm is in the suite's own simulation."
    if not missing:
        return MUJOCO, "The arm is in MuJoCo under ros2_control, in effort mode."
    if asked == MUJOCO:
        raise SystemDescriptionError(
            f"hardware:=mujoco needs {', '.join(missing)}, not installed here; "
            f"hardware:={SIMULATED} runs the same arm in the suite's own simulation"
        )
    return SIMULATED, (
        f"Not installed: {', '.join(missing)}. The same arm is in the suite's own simulation, "
        "without ros2_control."
    )


def describe(robot_name: str, task: str, seed: int, folder: Path) -> str:
    """Lays a scene for mujoco_ros2_control and describes the robot in it.

    Args:
        robot_name: Name of the arm.
        task: Task whose scene is laid.
        seed: Seed of the scene.
        folder: Receives the scene as ``scene.xml``.

    Returns:
        URDF with ``<ros2_control>``.

    Raises:
        ValueError: Arm or task is unknown; the message lists the valid names.
    """
    import xacro
    from ament_index_python.packages import get_package_share_path

    from vla_sim import mjcf, robots, tasks

    robot = robots.get(robot_name)
    scene = folder / "scene.xml"
    mjcf.write_mjcf(robot, tasks.get(task).draw(seed, robot).layout, scene)
    share = get_package_share_path("vla_description")
    with tempfile.NamedTemporaryFile("w", suffix=".urdf", encoding="utf-8") as urdf:
        urdf.write(robot.located_urdf())
        urdf.flush()
        document = xacro.process_file(
            str(share / "urdf" / "arm.urdf.xacro"),
            mappings={
                "arm": str(share / "arms" / f"{robot_name}.yaml"),
                "urdf": urdf.name,
                "hardware": MUJOCO,
                "mujoco_model": str(scene),
            },
        )
    return str(document.toxml())
