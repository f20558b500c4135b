# SPDX-License-Identifier: Apache-2.0
"""Starts a simulated system from its description, the one that `vla up` reads.

ros2 launch vla_bringup sim.launch.py system:=sim_franka record:=/path/to/bags
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchDescription
from vla_nodes.system import POLICY, SIMULATOR, load_system, prepared, system_names


def _node(entry):
    """The action for one entry; a lifecycle node is started by the lifecycle manager."""
    kind = LifecycleNode if entry.lifecycle else Node
    return kind(
        package=entry.package,
        executable=entry.executable,
        name=entry.name,
        namespace=entry.namespace,
        parameters=[
            *(str(path) for path in entry.parameter_files),
            {name: _value(value) for name, value in entry.parameters.items()},
            {"use_sim_time": entry.use_sim_time},
        ],
        remappings=list(entry.remaps.items()),
        output="screen",
        respawn=entry.respawn,
        respawn_delay=1.0,
    )


def _value(value):
    # launch cannot tell the type of an empty list; the nodes read [""] as one.
    return [""] if isinstance(value, list) and not value else value


def _shut_down_with(entry, action):
    """A required process takes the system down with it."""

    def end(event, context):
        # A second shutdown event, while everything ends anyway, is an error in launch_ros.
        if context.is_shutdown:
            return None
        return EmitEvent(event=Shutdown(reason=f"{entry.name} has ended"))

    return RegisterEventHandler(OnProcessExit(target_action=action, on_exit=end))


def _start(context):
    argument = {
        name: LaunchConfiguration(name).perform(context)
        for name in ("system", "record", "viewer", "policy")
    }
    overrides = {SIMULATOR: {"viewer": argument["viewer"] == "true"}}
    if argument["policy"]:
        overrides[POLICY] = {"checkpoint": argument["policy"]}
    system = prepared(
        load_system(argument["system"]),
        record=Path(argument["record"]) if argument["record"] else None,
        overrides=overrides,
    )
    actions = []
    for entry in system.nodes:
        action = _node(entry)
        actions.append(action)
        if entry.required:
            actions.append(_shut_down_with(entry, action))
    return actions


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
                "policy",
                default_value="",
                description="Checkpoint, or scripted/circle; empty = the system's own.",
            ),
            OpaqueFunction(function=_start),
        ]
    )
