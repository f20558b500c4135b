# SPDX-License-Identifier: Apache-2.0
"""Starts a simulated system from its description, the one that `vla up` reads.

ros2 launch vla_bringup sim.launch.py system:=sim_franka record:=/path/to/bags
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription
from vla_nodes.system.description import POLICY, SIMULATOR, load_system, prepared, system_names
from vla_nodes.system.launching import system_actions


def _start(context):
    argument = {
        name: LaunchConfiguration(name).perform(context)
        for name in ("system", "record", "viewer", "policy", "failure_detector", "console")
    }
    overrides = {SIMULATOR: {"viewer": argument["viewer"] == "true"}}
    if argument["policy"]:
        overrides[POLICY] = {"checkpoint": argument["policy"]}
    system = prepared(
        load_system(argument["system"]),
        record=Path(argument["record"]) if argument["record"] else None,
        detector=argument["failure_detector"],
        console=argument["console"] == "true",
        overrides=overrides,
    )
    return system_actions(system)


def generate_launch_description():
    """Declares the arguments; the nodes are made once these are known."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "system",
                default_value="sim_franka",
                choices=[name for name in system_names() if name.startswith("sim_")],
                description="Name of the system to run, a folder of config/.",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="",
                description="Folder for one bag per episode; empty = nothing is recorded.",
            ),
            DeclareLaunchArgument(
                "viewer",
                default_value="false",
                choices=["true", "false"],
                description="Whether to open MuJoCo's viewer; needs a display.",
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
