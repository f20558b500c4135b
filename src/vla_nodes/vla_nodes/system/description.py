# SPDX-License-Identifier: Apache-2.0
"""The declarative description of a running system, read by `vla up` and by the launch files.

``config/<system>/system.yaml`` says which nodes run, with which parameter files, remaps and
namespaces. Parameter files in that folder hold overrides only; the defaults come with the package.
Light on purpose: no ROS, no numpy.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vla_nodes.configs import SCHEMAS
from vla_nodes.parameters import ParameterError, defaults, from_mapping, read_parameter_file

CLOCKS = ("simulation", "system")
RECORDER = "recorder_node"
SUPERVISOR = "supervisor_node"
MANAGER = "lifecycle_manager"
SIMULATOR = "sim_node"
POLICY = "policy_node"
FAILURE = "failure_node"
CONSOLE = "console_node"
NO_DETECTOR = "none"
# A checkpoint may bring its detector along, in a folder of this name.
DETECTOR_FOLDER, CALIBRATION = "failure_detector", "calibration.json"
DETECTOR_TIMEOUT = 1.0  # s, of the supervisor, where a detector watches
SIMULATED = "sim"  # the hardware of `vla up`: the suite's own simulation


class SystemDescriptionError(ValueError):
    """A system description is missing or not valid."""


@dataclass(frozen=True)
class NodeEntry:
    """One process of a system.

    Attributes:
        name: Name of the node, unique in its namespace.
        executable: Name of the executable in its package.
        package: Package of the executable.
        namespace: Namespace, absolute or empty.
        lifecycle: The node is a lifecycle node, started by the lifecycle manager in list order.
        required: The system is shut down when the process ends.
        respawn: The process is started again when it ends.
        parameter_files: Files of overrides, later ones win.
        parameters: Single overrides, over the files.
        remaps: Topic or service names to names.
        hardware: The hardware that it belongs to; empty = it runs with any.
        use_sim_time: Whether its ROS time is the simulation's.
    """

    name: str
    executable: str
    package: str = "vla_nodes"
    namespace: str = ""
    lifecycle: bool = False
    required: bool = False
    respawn: bool = False
    parameter_files: tuple[Path, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remaps: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""
    use_sim_time: bool = False

    @property
    def full_name(self) -> str:
        """Absolute name of the node."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def values(self) -> dict[str, Any]:
        """Values of its parameters, if it is a node of this package; empty otherwise."""
        if self.package != "vla_nodes":
            return {}
        values = defaults(self.executable)
        for path in self.parameter_files:
            values.update(read_parameter_file(path))
        values.update(self.parameters)
        return values

    def command(self) -> list[str]:
        """The command line that starts the process under pip ROS and elsewhere."""
        if self.package == "vla_nodes":
            command = [sys.executable, "-m", f"vla_nodes.{self.executable}"]
        else:
            from ament_index_python.packages import get_package_prefix

            prefix = Path(get_package_prefix(self.package))
            command = [str(prefix / "lib" / self.package / self.executable)]
        command += ["--ros-args", "-r", f"__node:={self.name}"]
        if self.namespace:
            command += ["-r", f"__ns:={self.namespace}"]
        for path in self.parameter_files:
            command += ["--params-file", str(path)]
        for source, target in self.remaps.items():
            command += ["-r", f"{source}:={target}"]
        for name, value in {**self.parameters, "use_sim_time": self.use_sim_time}.items():
            command += ["-p", f"{name}:={yaml_value(value)}"]
        return command


@dataclass(frozen=True)
class System:
    """A running system as described in its folder."""

    name: str
    description: str
    folder: Path
    clock: str
    nodes: tuple[NodeEntry, ...]
    tasks: tuple[str, ...]
    time_limit: float

    def entry(self, executable: str) -> NodeEntry | None:
        """The first entry that runs an executable."""
        return next((entry for entry in self.nodes if entry.executable == executable), None)


def yaml_value(value: Any) -> str:
    """A value as `--ros-args -p` takes it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).split("\n...")[0].strip()


def config_folders() -> list[Path]:
    """Folders that hold system folders, in the order in which they are searched."""
    folders = [Path(one) for one in os.environ.get("VLA_CONFIG_PATH", "").split(":") if one]
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":"):
        if prefix:
            folders.append(Path(prefix) / "share" / "vla_bringup" / "config")
    return [folder for folder in folders if folder.is_dir()]


def system_names() -> tuple[str, ...]:
    """Names of all systems that can be found."""
    names = {path.parent.name for one in config_folders() for path in one.glob("*/system.yaml")}
    return tuple(sorted(names))


def find_system(name: str) -> Path:
    """The folder of a system, by name or by path.

    Raises:
        SystemDescriptionError: There is none; the message lists those that there are.
    """
    for folder in (Path(name), *(one / name for one in config_folders())):
        if (folder / "system.yaml").is_file():
            return folder.resolve()
    raise SystemDescriptionError(
        f"no system {name!r}; systems: {', '.join(system_names()) or 'none'} "
        "(searched VLA_CONFIG_PATH and the installed package vla_bringup)"
    )


def load_system(name: str) -> System:
    """Reads and checks a system description.

    Args:
        name: Name of a system, or the path of its folder.

    Raises:
        SystemDescriptionError: Naming the value and what is valid.
    """
    folder = find_system(name)
    path = folder / "system.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SystemDescriptionError(f"{path}: {error}") from None
    top = _section(
        path,
        content,
        {"description": str, "clock": str, "nodes": list, "demo": dict},
        required=("description", "clock", "nodes"),
    )
    if top["clock"] not in CLOCKS:
        raise SystemDescriptionError(
            f"{path}: clock is {top['clock']!r}; choices: {', '.join(CLOCKS)}"
        )
    demo = _section(f"{path}: demo", top.get("demo", {}), {"tasks": list, "time_limit": float})
    nodes = tuple(_entry(path, one, top["clock"] == "simulation") for one in top["nodes"])
    names = [node.full_name for node in nodes]
    if len(set(names)) != len(names):
        raise SystemDescriptionError(
            f"{path}: two nodes have the same name: {', '.join(sorted(names))}"
        )
    ordered = [node.full_name for node in nodes if node.lifecycle]
    return System(
        name=folder.name,
        description=top["description"],
        folder=folder,
        clock=top["clock"],
        nodes=tuple(
            with_parameters(node, {"node_names": ordered}) if node.executable == MANAGER else node
            for node in nodes
        ),
        tasks=tuple(demo.get("tasks", ())),
        time_limit=demo.get("time_limit", 30.0),
    )


def with_parameters(entry: NodeEntry, values: Mapping[str, Any]) -> NodeEntry:
    """The entry with more overrides, checked.

    Raises:
        SystemDescriptionError: Naming the value and what is valid.
    """
    changed = replace(entry, parameters={**entry.parameters, **values})
    if changed.package == "vla_nodes":
        try:
            from_mapping(SCHEMAS[changed.executable], changed.values())
        except ParameterError as error:
            raise SystemDescriptionError(f"{entry.full_name}: {error}") from None
    return changed


def prepared(
    system: System,
    *,
    hardware: str = SIMULATED,
    record: Path | None = None,
    detector: str = NO_DETECTOR,
    uncalibrated: bool = False,
    console: bool = False,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> System:
    """The system with the choices of one run.

    Args:
        system: As described.
        hardware: What moves the arm; nodes of other hardware are left out.
        record: Folder for bags; None leaves the recorder out.
        detector: Folder of a failure detector, ``none`` for none, empty for that of the checkpoint,
            if it has one. Where there is one, the policy may move the arm only under its eyes.
        uncalibrated: Whether a detector may run without a calibration.
        console: Whether the operator's page is served.
        overrides: Executable to parameters.

    Raises:
        SystemDescriptionError: Naming the value and what is valid.
    """
    changes = {name: dict(values) for name, values in (overrides or {}).items()}
    nodes = tuple(node for node in system.nodes if node.hardware in ("", hardware))
    folder = _detector_folder(system, detector, changes)
    if folder is None:
        nodes = tuple(node for node in nodes if node.executable != FAILURE)
    else:
        changes.setdefault(FAILURE, {})["detector"] = str(folder.resolve())
        changes[FAILURE]["allow_uncalibrated"] = uncalibrated
        supervisor = system.entry(SUPERVISOR)
        if supervisor is not None and supervisor.values()["detector_timeout"] == 0.0:
            changes.setdefault(SUPERVISOR, {}).setdefault("detector_timeout", DETECTOR_TIMEOUT)
    if record is None:
        nodes = tuple(node for node in nodes if node.executable != RECORDER)
    elif system.entry(RECORDER) is not None:
        changes.setdefault(RECORDER, {})["directory"] = str(record.resolve())
        changes[RECORDER]["source"] = system.name
        changes.setdefault(CONSOLE, {}).setdefault("recordings", str(record.resolve()))
        # Longer than the recorder's own wait, so that its list of what is missing comes first.
        wait = system.entry(RECORDER).values()["start_timeout"] + 10.0  # type: ignore[union-attr]
        changes.setdefault(SUPERVISOR, {}).setdefault("recorder_timeout", wait)
    if console and system.entry(CONSOLE) is None:
        nodes = (*nodes, NodeEntry("console", CONSOLE))
    ordered = [node.full_name for node in nodes if node.lifecycle]
    changes.setdefault(MANAGER, {})["node_names"] = ordered
    return replace(
        system,
        nodes=tuple(with_parameters(node, changes.get(node.executable, {})) for node in nodes),
    )


def _detector_folder(
    system: System, detector: str, changes: Mapping[str, Mapping[str, Any]]
) -> Path | None:
    """The folder of the failure detector to run with; None = none.

    Raises:
        SystemDescriptionError: It is not there, or the system has no node for it.
    """
    if detector == NO_DETECTOR:
        return None
    entry, policy = system.entry(FAILURE), system.entry(POLICY)
    if not detector:
        if entry is None or policy is None:
            return None
        values = {**policy.values(), **changes.get(POLICY, {})}
        folder = checkpoint_folder(str(values["checkpoint"])) / DETECTOR_FOLDER
        return folder if (folder / CALIBRATION).is_file() else None
    if entry is None:
        raise SystemDescriptionError(f"{system.name} has no {FAILURE}, so it takes no detector")
    if not Path(detector).is_dir():
        raise SystemDescriptionError(
            f"no folder of a failure detector at {detector!r}; valid: one written by "
            f"`vla failure fit`, or {NO_DETECTOR}"
        )
    return Path(detector)


def checkpoint_folder(checkpoint: str) -> Path:
    """Where a checkpoint lies: a committed one by its name, any other by its path."""
    # Not imported: that would load numpy.
    found = importlib.util.find_spec("vla_policy")
    committed = Path(found.origin).parent / "checkpoints" if found and found.origin else Path()
    return committed / checkpoint if (committed / checkpoint).is_dir() else Path(checkpoint)


def _section(
    where: Path | str, content: Any, kinds: Mapping[str, type], required: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SystemDescriptionError(f"{where}: expected a mapping with {', '.join(kinds)}")
    unknown = sorted(str(key) for key in content if key not in kinds)
    if unknown:
        raise SystemDescriptionError(
            f"{where}: unknown key {', '.join(unknown)}; valid: {', '.join(kinds)}"
        )
    missing = [key for key in required if key not in content]
    if missing:
        raise SystemDescriptionError(f"{where}: {', '.join(missing)} is missing")
    checked = {}
    for key, value in content.items():
        kind = kinds[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind):
            raise SystemDescriptionError(f"{where}: {key} must be a {kind.__name__}, not {value!r}")
        checked[key] = value
    return checked


def _entry(path: Path, content: Any, simulated: bool) -> NodeEntry:
    kinds: dict[str, type] = {
        "name": str,
        "executable": str,
        "package": str,
        "namespace": str,
        "lifecycle": bool,
        "required": bool,
        "respawn": bool,
        "parameter_files": list,
        "remaps": dict,
        "hardware": str,
    }
    values = _section(f"{path}: nodes", content, kinds, required=("name", "executable"))
    where = f"{path}: node {values['name']}"
    files = []
    for name in values.pop("parameter_files", []):
        file = path.parent / str(name)
        if not file.is_file():
            raise SystemDescriptionError(f"{where}: no parameter file {file}")
        files.append(file)
    executable = values["executable"]
    ours = values.get("package", "vla_nodes") == "vla_nodes"
    if ours and executable not in SCHEMAS:
        raise SystemDescriptionError(
            f"{where}: no executable {executable!r} in vla_nodes; there are {', '.join(SCHEMAS)}"
        )
    entry = NodeEntry(
        **values,
        parameter_files=tuple(files),
        use_sim_time=simulated and executable != SIMULATOR,
    )
    try:
        return with_parameters(entry, {})
    except ParameterError as error:
        raise SystemDescriptionError(f"{where}: {error}") from None
