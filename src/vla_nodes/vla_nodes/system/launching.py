# SPDX-License-Identifier: Apache-2.0
"""Launch actions for the nodes of a system; imported by launch files only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.actions import EmitEvent, LogInfo, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch_ros.actions import LifecycleNode, Node

from vla_nodes.system.description import NodeEntry, System


def system_actions(
    system: System, extra: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Any]:
    """The actions that start the nodes of a system; required ones take the launch down with them.

    Args:
        system: As prepared.
        extra: More parameters by the name of the node, such as a robot's description.
    """
    actions: list[Any] = []
    for entry in system.nodes:
        action = _node(entry, (extra or {}).get(entry.name, {}))
        actions.append(action)
        if entry.required:
            actions.append(required(entry.name, action))
    return actions


def required(name: str, action: Any, *, may_finish: bool = False) -> Any:
    """The handler that shuts the launch down when a process ends.

    Args:
        name: What people call it.
        action: The process.
        may_finish: Whether it may end with exit code 0.
    """

    def end(event: Any, context: Any) -> Any:
        # A second shutdown event, while everything ends anyway, is an error in launch_ros.
        if context.is_shutdown or (may_finish and event.returncode == 0):
            return None
        reason = f"{name} has ended (exit code {event.returncode}); everything is shut down"
        return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason))]

    return RegisterEventHandler(OnProcessExit(target_action=action, on_exit=end))


def _node(entry: NodeEntry, extra: Mapping[str, Any]) -> Any:
    """The action for one entry; a lifecycle node is started by the lifecycle manager."""
    kind = LifecycleNode if entry.lifecycle else Node
    values = {**entry.parameters, **extra, "use_sim_time": entry.use_sim_time}
    return kind(
        package=entry.package,
        executable=entry.executable,
        name=entry.name,
        namespace=entry.namespace,
        parameters=[
            *(str(path) for path in entry.parameter_files),
            {name: _value(value) for name, value in values.items()},
        ],
        remappings=list(entry.remaps.items()),
        output="screen",
        respawn=entry.respawn,
        respawn_delay=1.0,
    )


def _value(value: Any) -> Any:
    # launch cannot tell the type of an empty list; the nodes read [""] as one.
    return [""] if isinstance(value, list) and not value else value
