# SPDX-License-Identifier: Apache-2.0
"""Starts a Franka in front of a table, with the controller, supervisor, policy and recorder.

ros2 launch vla_bringup franka.launch.py record:=/path/to/bags

Where mujoco_ros2_control is installed, the arm is in MuJoCo under ros2_control; elsewhere it is in
the suite's own simulation. Then `ros2 action send_goal /run_task vla_msgs/action/RunTask
"{instruction: touch the red block, time_limit: 20.0}"` has it do something.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.logging import launch_config
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from vla_nodes.system import hardware
from vla_nodes.system.description import POLICY, SIMULATOR, load_system, prepared
from vla_nodes.system.launching import required, system_actions

SYSTEM = "franka"
ROBOT = "panda"
CONTROLLERS = ("joint_state_broadcaster", "gripper_controller", "controller")


def _start(context):
    argument = {
        name: LaunchConfiguration(name).perform(context)
        for name in ("hardware", "task", "seed", "record", "policy", "failure_detector", "console")
    }
    chosen, line = hardware.choose(argument["hardware"])
    task, seed = argument["task"], int(argument["seed"])
    overrides = {SIMULATOR: {"robot": ROBOT, "task": task, "seed": seed}}
    if argument["policy"]:
        overrides[POLICY] = {"checkpoint": argument["policy"]}
    system = prepared(
        load_system(SYSTEM),
        hardware=chosen,
        record=Path(argument["record"]) if argument["record"] else None,
        detector=argument["failure_detector"],
        console=argument["console"] == "true",
        overrides=overrides,
    )
    actions = [LogInfo(msg=line)]
    if chosen == hardware.MUJOCO:
        # Kept with the logs of this launch.
        description = hardware.describe(ROBOT, task, seed, Path(launch_config.log_dir))
        actions += system_actions(
            system, {"robot_state_publisher": {"robot_description": description}}
        )
        actions += _spawner(system.folder / "mujoco.yaml")
    else:
        actions += system_actions(system)
    return actions


def _spawner(parameters):
    """Loads, configures and activates the controllers, and ends."""
    spawner = Node(
        package="controller_manager",
        executable="spawner",
        arguments=[*CONTROLLERS, "--param-file", str(parameters)],
        output="screen",
    )
    return [spawner, required("the spawner of the controllers", spawner, may_finish=True)]


def generate_launch_description():
    """Declares the arguments; the nodes are made once these are known."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "hardware",
                default_value=hardware.AUTO,
                choices=list(hardware.CHOICES),
                description=(
                    "What moves the arm: mujoco_ros2_control, the suite's own simulation, or "
                    "whichever of them is installed, in this order."
                ),
            ),
            DeclareLaunchArgument(
                "task",
                default_value="touch",
                description="Task whose scene is laid.",
            ),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the scene."),
            DeclareLaunchArgument(
                "record",
                default_value="",
                description="Folder for one bag per episode; empty = nothing is recorded.",
            ),
            DeclareLaunchArgument(
                "console",
                default_value="false",
                choices=["true", "false"],
                description="Whether to serve a page to watch and take over; prints its address.",
            ),
            DeclareLaunchArgument(
                "policy",
                default_value="",
                description="Checkpoint, or scripted/circle; empty = the system's own.",
            ),
            DeclareLaunchArgument(
                "failure_detector",
                default_value="",
                description=(
                    "Folder of a calibrated failure detector; none = nobody watches; "
                    "empty = that of the checkpoint, if it has one."
                ),
            ),
            OpaqueFunction(function=_start),
        ]
    )
