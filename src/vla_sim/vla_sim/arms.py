# SPDX-License-Identifier: Apache-2.0
"""Descriptions of arms: a URDF and one YAML per arm, from the package ``vla_description``.

``docs/adding_an_arm.md`` explains the fields. What a file lacks, or has too much of, is an error
that names it: a typing mistake must not become a default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_sim.typing import FloatArray

EFFORT_STATES = ("total", "gravity_free", "current", "none")
COMMANDS = ("effort", "position")


class ArmError(ValueError):
    """A description of an arm is missing or wrong."""


@dataclass(frozen=True)
class Limits:
    """What the maker publishes, per joint; None = nothing is published.

    Attributes:
        source: Where.
        velocity: rad/s.
        acceleration: rad/s^2.
        jerk: rad/s^3.
        torque: Nm.
        torque_rate: Nm/s.
    """

    source: str
    velocity: FloatArray
    acceleration: FloatArray | None
    jerk: FloatArray | None
    torque: FloatArray
    torque_rate: FloatArray | None


@dataclass(frozen=True)
class Drives:
    """What the drives are like and what they are told.

    Attributes:
        command: ``"effort"`` or ``"position"``.
        control_rate: Hz.
        command_includes_gravity: Whether a commanded torque must contain gravity.
        effort_state: What the measured effort is, one of ``EFFORT_STATES``.
        coulomb_friction: Per joint, Nm.
        viscous_friction: Per joint, Nms/rad.
        friction_source: Where they come from.
        rotor_inertia: Per joint, as seen at the joint, kg m^2.
        rotor_inertia_source: Where it comes from.
    """

    command: str
    control_rate: float
    command_includes_gravity: bool
    effort_state: str
    coulomb_friction: FloatArray
    viscous_friction: FloatArray
    friction_source: str
    rotor_inertia: FloatArray
    rotor_inertia_source: str


@dataclass(frozen=True)
class Gripper:
    """A gripper with two prismatic fingers.

    Attributes:
        joints: Of the two fingers.
        fingers: Links of the two fingers.
        max_opening: Largest distance between the pads, m.
        max_force: N.
        default_force: When a chunk names none, N.
    """

    joints: tuple[str, str]
    fingers: tuple[str, str]
    max_opening: float
    max_force: float
    default_force: float


@dataclass(frozen=True)
class Look:
    """How an arm is drawn in simulation.

    Attributes:
        body: RGB of its links, 0..1.
        dark: RGB of ``dark_links``.
        dark_links: Links drawn in the dark colour.
        wrist_camera_position: In the tool frame, m.
        wrist_camera_target: Point it looks at, in the tool frame, m.
    """

    body: tuple[float, float, float]
    dark: tuple[float, float, float]
    dark_links: tuple[str, ...]
    wrist_camera_position: tuple[float, float, float]
    wrist_camera_target: tuple[float, float, float]


@dataclass(frozen=True)
class ArmDescription:
    """An arm, as its YAML and its URDF tell.

    Attributes:
        name: Short name, e.g. ``"panda"``.
        title: Maker and model.
        urdf_xml: URDF of arm and gripper; meshes as ``package://`` addresses.
        joint_names: From base to tool.
        base_frame: Frame all poses are expressed in.
        tool_frame: Frame that is controlled.
        home: A posture with the tool pointing down, rad.
        limits: What the maker publishes.
        drives: What the drives are like.
        gripper: What is mounted.
        look: How it is drawn.
        may_touch: Pairs of links that a collision monitor leaves out.
        tasks: Whether the tasks of the simulator are tested with it.
    """

    name: str
    title: str
    urdf_xml: str
    joint_names: tuple[str, ...]
    base_frame: str
    tool_frame: str
    home: FloatArray
    limits: Limits
    drives: Drives
    gripper: Gripper
    look: Look
    may_touch: tuple[tuple[str, str], ...]
    tasks: bool


def folder() -> Path:
    """Return the folder of the descriptions that come with the suite.

    Raises:
        ArmError: The package ``vla_description`` is not installed.
    """
    for prefix in _prefixes():
        found = prefix / "share" / "vla_description" / "arms"
        if found.is_dir():
            return found
    raise ArmError("the package 'vla_description' was not found; build the workspace and source it")


def names() -> tuple[str, ...]:
    """Return the names of the arms that come with the suite."""
    found = [path.stem for path in folder().glob("*.yaml")]
    # ur5 before ur10
    return tuple(sorted(found, key=lambda name: re.sub(r"\d+", lambda m: m[0].zfill(4), name)))


def find(name: str) -> ArmDescription:
    """Return an arm of the suite by name, or any other by the path of its YAML.

    Raises:
        ArmError: There is none, or it is wrong; the message says what and lists the valid names.
    """
    if name.endswith((".yaml", ".yml")):
        return load(Path(name))
    if name not in names():
        raise ArmError(f"unknown robot {name!r}; valid: {', '.join(names())}, or a path to a YAML")
    return load(folder() / f"{name}.yaml")


def load(path: Path) -> ArmDescription:
    """Return the arm that a YAML describes.

    Raises:
        ArmError: The file cannot be read, or a field is missing, unknown or out of range.
    """
    try:
        top = _Section(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    except (OSError, yaml.YAMLError) as error:
        raise ArmError(f"{path}: {error}") from error
    joints = top.section("joints")
    joint_names = joints.strings("names")
    n = len(joint_names)
    if n == 0:
        raise ArmError(f"{path.name}: joints.names must not be empty")
    gripper = top.section("gripper")
    arm = ArmDescription(
        name=path.stem,
        title=top.text("title"),
        urdf_xml=_urdf(path, top.section("urdf"), gripper),
        joint_names=joint_names,
        base_frame=top.text("base_frame"),
        tool_frame=top.text("tool_frame"),
        home=joints.numbers("home", n),
        limits=_limits(top.section("limits"), n),
        drives=_drives(top.section("drives"), n),
        gripper=_gripper(gripper),
        look=_look(top.section("look", {})),
        may_touch=_may_touch(top.section("collision", {})),
        tasks=top.flag("tasks", False),
    )
    joints.close()
    top.close()
    _check_names(arm, path)
    return arm


def share_of(package: str) -> Path:
    """Return the ``share`` folder that holds a package's data.

    Raises:
        ArmError: It is neither in this Python environment nor on ``AMENT_PREFIX_PATH``.
    """
    for prefix in _prefixes():
        if (prefix / "share" / package).is_dir():
            return prefix / "share"
    raise ArmError(
        f"the package {package!r} was not found; install it with `pip install {package}`"
    )


def package_folders() -> list[str]:
    """Return the folders that may hold the packages of ``package://`` addresses."""
    return [str(prefix / "share") for prefix in _prefixes()]


def _prefixes() -> list[Path]:
    prefixes = [Path(entry) / "cmeel.prefix" for entry in sys.path if entry]
    return prefixes + [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]


def _limits(section: _Section, n: int) -> Limits:
    limits = Limits(
        source=section.text("source"),
        velocity=section.numbers("velocity", n, above=0.0),
        acceleration=section.maybe_numbers("acceleration", n),
        jerk=section.maybe_numbers("jerk", n),
        torque=section.numbers("torque", n, above=0.0),
        torque_rate=section.maybe_numbers("torque_rate", n),
    )
    section.close()
    return limits


def _drives(section: _Section, n: int) -> Drives:
    friction, rotor = section.section("friction"), section.section("rotor_inertia")
    drives = Drives(
        command=section.choice("command", COMMANDS),
        control_rate=section.number("control_rate", above=0.0),
        command_includes_gravity=section.flag("command_includes_gravity"),
        effort_state=section.choice("effort_state", EFFORT_STATES),
        coulomb_friction=friction.numbers("coulomb", n, least=0.0),
        viscous_friction=friction.numbers("viscous", n, least=0.0),
        friction_source=friction.text("source"),
        rotor_inertia=rotor.numbers("values", n, least=0.0),
        rotor_inertia_source=rotor.text("source"),
    )
    for part in (friction, rotor, section):
        part.close()
    return drives


def _gripper(section: _Section) -> Gripper:
    gripper = Gripper(
        joints=section.pair("joints"),
        fingers=section.pair("fingers"),
        max_opening=section.number("max_opening", above=0.0),
        max_force=section.number("max_force", above=0.0),
        default_force=section.number("default_force", above=0.0),
    )
    section.close()
    return gripper


def _look(section: _Section) -> Look:
    def triple(name: str, default: list[float]) -> tuple[float, float, float]:
        x, y, z = section.numbers(name, 3, default=default)
        return float(x), float(y), float(z)

    look = Look(
        body=triple("body", [0.75, 0.78, 0.82]),
        dark=triple("dark", [0.16, 0.16, 0.18]),
        dark_links=section.strings("dark_links", ()),
        wrist_camera_position=triple("wrist_camera_position", [0.075, 0.0, -0.075]),
        wrist_camera_target=triple("wrist_camera_target", [0.03, 0.0, 0.03]),
    )
    section.close()
    return look


def _may_touch(section: _Section) -> tuple[tuple[str, str], ...]:
    pairs = section.pairs("may_touch")
    section.close()
    return pairs


def _urdf(path: Path, section: _Section, gripper: _Section) -> str:
    """The URDF of the arm, with the gripper's appended where that is a file of its own."""
    xml = _read_urdf(path, section)
    if "urdf" not in gripper:
        return xml
    fragment = _read_urdf(path, gripper.section("urdf"))
    mount = gripper.section("mount")
    joint = (
        f'<joint name="gripper_mount" type="fixed"><parent link="{mount.text("parent")}"/>'
        f'<child link="{mount.text("child")}"/>'
        f'<origin xyz="{mount.spaced("xyz")}" rpy="{mount.spaced("rpy")}"/></joint>'
    )
    mount.close()
    inside = re.sub(r"\A.*?<robot\b[^>]*>|</robot>\s*\Z", "", fragment, flags=re.DOTALL)
    return xml.replace("</robot>", joint + inside + "</robot>")


def _read_urdf(path: Path, section: _Section) -> str:
    """A URDF beside the YAML, or of an installed package, without what only Gazebo reads."""
    if "package" in section:
        package = section.text("package")
        file = share_of(package) / package / section.text("file")
    else:
        file = path.parent / section.text("file")
    section.close()
    try:
        xml = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ArmError(f"{path.name}: {error}") from error
    return re.sub(r"<(gazebo|transmission)\b.*?</\1>", "", xml, flags=re.DOTALL)


def _check_names(arm: ArmDescription, path: Path) -> None:
    joints = set(re.findall(r'<joint\b[^>]*\bname="([^"]+)"', arm.urdf_xml))
    links = set(re.findall(r'<link\b[^>]*\bname="([^"]+)"', arm.urdf_xml))
    for kind, wanted, present in (
        ("joint", (*arm.joint_names, *arm.gripper.joints), joints),
        ("link", (arm.base_frame, arm.tool_frame, *arm.gripper.fingers), links),
        ("link", tuple(name for pair in arm.may_touch for name in pair), links),
    ):
        for name in wanted:
            if name not in present:
                raise ArmError(
                    f"{path.name}: the URDF has no {kind} {name!r}; valid: "
                    f"{', '.join(sorted(present))}"
                )


class _Section:
    """A mapping of the YAML that remembers what was read; whatever is left over is an error."""

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, Mapping):
            raise ArmError(f"{name} must be a mapping")
        self._values = dict(values)
        self._name = name
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def close(self) -> None:
        """Refuse what nobody has read."""
        unknown = sorted(set(self._values) - self._read)
        if unknown:
            valid = ", ".join(sorted(self._read))
            raise ArmError(f"{self._name}: unknown {', '.join(unknown)}; valid: {valid}")

    def _get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        value = self._values.get(name, default)
        if value is None:
            raise ArmError(f"{self._name}: {name} is missing")
        return value

    def section(self, name: str, default: Any = None) -> _Section:
        return _Section(self._get(name, default), f"{self._name}: {name}")

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str) or not value.strip():
            raise ArmError(f"{self._name}: {name} must be text, not {value!r}")
        return value.strip()

    def choice(self, name: str, valid: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in valid:
            raise ArmError(f"{self._name}: {name} is {value!r}; valid: {', '.join(valid)}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise ArmError(f"{self._name}: {name} must be true or false, not {value!r}")
        return value

    def strings(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self._get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ArmError(f"{self._name}: {name} must be a list of names, not {value!r}")
        return tuple(value)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        value = self._get(name, [])
        for entry in value if isinstance(value, list) else [value]:
            named = isinstance(entry, list) and all(isinstance(v, str) for v in entry)
            if not named or len(entry) != 2:
                raise ArmError(f"{self._name}: {name} must be a list of pairs, not {value!r}")
        return tuple((a, b) for a, b in value)

    def pair(self, name: str) -> tuple[str, str]:
        value = self.strings(name)
        if len(value) != 2:
            raise ArmError(f"{self._name}: {name} must have two names, not {len(value)}")
        return value[0], value[1]

    def number(self, name: str, *, above: float) -> float:
        return float(self.numbers(name, 1, above=above, default=None)[0])

    def spaced(self, name: str) -> str:
        return " ".join(f"{v:.10g}" for v in self.numbers(name, 3))

    def maybe_numbers(self, name: str, n: int) -> FloatArray | None:
        """Numbers above zero, or None where the file says ``null``; the field must be there."""
        self._read.add(name)
        if name in self._values and self._values[name] is None:
            return None
        return self.numbers(name, n, above=0.0)

    def numbers(
        self,
        name: str,
        n: int,
        *,
        above: float = -np.inf,
        least: float = -np.inf,
        default: Any = None,
    ) -> FloatArray:
        value = self._get(name, default)
        entries = value if isinstance(value, list) else [value] * n
        if len(entries) != n:
            raise ArmError(f"{self._name}: {name} must have {n} numbers, not {len(entries)}")
        for entry in entries:
            if isinstance(entry, bool) or not isinstance(entry, int | float):
                raise ArmError(f"{self._name}: {name} must be numbers, not {entry!r}")
            if not np.isfinite(entry) or not entry > above or not entry >= least:
                bound = f"above {above:g}" if above > -np.inf else f"at least {least:g}"
                raise ArmError(f"{self._name}: {name} is {entry}; valid: finite, {bound}")
        return np.array(entries, dtype=float)
