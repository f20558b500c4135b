# SPDX-License-Identifier: Apache-2.0
"""What a policy's action vectors mean, and their one conversion to absolute references.

A vector is the arm's part (translation and rotation, or joints) and the gripper's value behind it.
The reference of step i is what is commanded at ``stamp + i · step_dt``, where the stamp is the
observation's; actions relative to the step before start at the observed pose, so their first
reference lies one action beyond it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..poses import POSE_NAMES, invert_pose, make_pose
from ..types import Array, RobotState
from .gripper import GripperConvention
from .rotations import SIZES, check_euler_convention, decode_rotations, encode_rotations

QUANTITIES = ("pose", "joint_position", "joint_velocity")
RELATIONS = ("nothing", "observation", "previous_step")
FRAMES = ("base", "tool")


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """Conversion between a policy's actions and absolute commanded references.

    Attributes:
        quantity: What the arm's part commands: ``pose``, ``joint_position``, ``joint_velocity``.
        relative_to: ``nothing`` (absolute), ``observation`` or ``previous_step``; a velocity is
            always relative to the step before.
        rotation: Of poses: ``6d``, ``rotation_vector``, ``euler`` or ``quat_xyzw``.
        euler_convention: Of Euler angles, e.g. ``xyz`` (fixed axes) or ``ZYX`` (turning along);
            there is no default.
        frame: Axes of a relative pose: ``base`` (p + Δp, ΔR·R) or ``tool`` (T·ΔT).
        joints: Number of arm joints, of joint quantities.
        step_dt: Time between steps, s, of velocities.
        translation_scale: m per unit.
        rotation_scale: rad per unit, of rotation vectors and Euler angles.
        joint_scale: rad, or rad/s, per unit.
        clipped: Whether entries of the arm's part beyond -1 and 1 count as -1 and 1, as the
            convention's own robot takes them.
        gripper: Meaning of the last entry.
    """

    quantity: str
    relative_to: str
    rotation: str | None = None
    euler_convention: str | None = None
    frame: str | None = None
    joints: int | None = None
    step_dt: float | None = None
    translation_scale: float = 1.0
    rotation_scale: float = 1.0
    joint_scale: float = 1.0
    clipped: bool = False
    gripper: GripperConvention = field(default_factory=GripperConvention)

    def __post_init__(self) -> None:
        _choose("quantity", self.quantity, QUANTITIES)
        _choose("relative_to", self.relative_to, RELATIONS)
        for name in ("translation_scale", "rotation_scale", "joint_scale"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}; valid: a positive number")
        if self.quantity == "pose":
            self._check_pose()
        else:
            self._check_joints()

    def _check_pose(self) -> None:
        _choose("rotation", self.rotation, tuple(SIZES))
        if self.rotation == "euler":
            check_euler_convention(self.euler_convention)
        elif self.euler_convention is not None:
            raise ValueError(f"a rotation as {self.rotation!r} has no euler_convention")
        if self.rotation in ("6d", "quat_xyzw") and self.rotation_scale != 1.0:
            raise ValueError(f"a rotation as {self.rotation!r} has no rotation_scale")
        if self.relative_to == "nothing":
            if self.frame not in (None, "base"):
                raise ValueError(f"frame is {self.frame!r}; absolute poses are in 'base'")
        else:
            _choose("frame", self.frame, FRAMES)
        self._refuse("joints", "step_dt")

    def _check_joints(self) -> None:
        if self.joints is None or not 1 <= self.joints <= 32:
            raise ValueError(f"joints is {self.joints}; valid: 1 to 32")
        if self.quantity == "joint_velocity":
            if self.relative_to != "previous_step":
                raise ValueError(
                    f"relative_to is {self.relative_to!r}; a velocity is relative to the "
                    "'previous_step'"
                )
            if self.step_dt is None or not self.step_dt > 0.0:
                raise ValueError(f"step_dt is {self.step_dt}; velocities need a positive one, s")
            self._refuse("rotation", "euler_convention", "frame")
        else:
            self._refuse("rotation", "euler_convention", "frame", "step_dt")

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to actions of {self.quantity!r}")

    @property
    def dim(self) -> int:
        """Length of an action vector."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Entries of an action vector, in order."""
        if self.quantity != "pose":
            arm = tuple(f"{self.quantity}/{i}" for i in range(self.joints or 0))
        elif self.rotation == "6d":
            arm = POSE_NAMES
        else:
            arm = (*"xyz", *(f"{self.rotation}/{i}" for i in range(SIZES[self.rotation or ""])))
        return (*arm, "gripper_opening" if self.gripper.unit == "m" else "gripper")

    def observed(self, state: RobotState) -> Array:
        """What this space's actions start from: tool pose (4, 4), or joint positions (n,)."""
        return state.pose_tool_in_base if self.quantity == "pose" else state.q

    def encode(
        self,
        observed: npt.NDArray[np.float64],
        commanded: npt.NDArray[np.float64],
        gripper_opening: npt.NDArray[np.float64],
    ) -> Array:
        """Actions of absolute references.

        Args:
            observed: (..., 4, 4) tool pose in the base frame, or (..., n) joint positions, rad.
            commanded: (..., H, 4, 4) or (..., H, n).
            gripper_opening: (..., H), m.

        Returns:
            (..., H, dim).
        """
        encode_arm = self._encode_poses if self.quantity == "pose" else self._encode_joints
        arm = encode_arm(observed, commanded)
        return np.concatenate([arm, self.gripper.encode(gripper_opening)[..., None]], axis=-1)

    def decode(
        self, observed: npt.NDArray[np.float64], actions: npt.NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """Absolute references and gripper openings of actions.

        Args:
            observed: (..., 4, 4) tool pose in the base frame, or (..., n) joint positions, rad.
            actions: (..., H, dim).

        Returns:
            (..., H, 4, 4) tool poses in the base frame or (..., H, n) joint positions, and
            (..., H) openings, m.

        Raises:
            ValueError: If the actions have another length, are not finite or hold a rotation that
                is degenerate.
        """
        if actions.shape[-1] != self.dim:
            raise ValueError(f"the actions have {actions.shape[-1]} entries, not {self.dim}")
        if not np.all(np.isfinite(actions)):
            *_, step, entry = np.argwhere(~np.isfinite(actions))[0]
            raise ValueError(
                f"{self.names[entry]} of step {step} of the chunk is {actions[..., step, entry]}"
            )
        decode_arm = self._decode_poses if self.quantity == "pose" else self._decode_joints
        entries = actions[..., :-1]
        arm = decode_arm(observed, np.clip(entries, -1.0, 1.0) if self.clipped else entries)
        return arm, self.gripper.decode(actions[..., -1])

    def _encode_poses(self, observed: Array, commanded: Array) -> Array:
        before = observed[..., None, :, :]
        if self.relative_to == "previous_step":
            before = np.concatenate([before, commanded[..., :-1, :, :]], axis=-3)
        if self.relative_to == "nothing":
            change = commanded
        elif self.frame == "tool":
            change = invert_pose(before) @ commanded
        else:
            turn = commanded[..., :3, :3] @ np.swapaxes(before[..., :3, :3], -1, -2)
            change = make_pose(commanded[..., :3, 3] - before[..., :3, 3], turn)
        values = encode_rotations(
            change[..., :3, :3],
            self.rotation or "",
            self.euler_convention,
            continuous=self.relative_to != "previous_step",
        )
        return np.concatenate(
            [change[..., :3, 3] / self.translation_scale, values / self.rotation_scale], axis=-1
        )

    def _decode_poses(self, observed: Array, arm: Array) -> Array:
        change = make_pose(
            arm[..., :3] * self.translation_scale,
            decode_rotations(
                arm[..., 3:] * self.rotation_scale, self.rotation or "", self.euler_convention
            ),
        )
        if self.relative_to == "nothing":
            return change
        if self.relative_to == "observation":
            return self._moved(observed[..., None, :, :], change)
        poses = np.empty_like(change)
        pose = observed
        for step in range(change.shape[-3]):
            pose = self._moved(pose, change[..., step, :, :])
            poses[..., step, :, :] = pose
        return poses

    def _moved(self, pose: Array, change: Array) -> Array:
        if self.frame == "tool":
            return np.asarray(pose @ change)
        return make_pose(
            pose[..., :3, 3] + change[..., :3, 3], change[..., :3, :3] @ pose[..., :3, :3]
        )

    @property
    def _joint_step(self) -> float:
        """Rad per unit."""
        return self.joint_scale * (1.0 if self.step_dt is None else self.step_dt)

    def _encode_joints(self, observed: Array, commanded: Array) -> Array:
        if self.relative_to == "nothing":
            change = commanded
        elif self.relative_to == "observation":
            change = commanded - observed[..., None, :]
        else:
            change = np.diff(commanded, axis=-2, prepend=observed[..., None, :])
        return np.asarray(change / self._joint_step)

    def _decode_joints(self, observed: Array, arm: Array) -> Array:
        change = arm * self._joint_step
        if self.relative_to == "previous_step":
            change = np.cumsum(change, axis=-2)
        return change if self.relative_to == "nothing" else observed[..., None, :] + change

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for JSON and YAML."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ActionSpec:
        """Reads ``to_dict``'s result; entries with a default may be left out.

        Raises:
            ValueError: Naming the entry that is unknown or wrong, and what is valid.
        """
        gripper = _known("gripper", GripperConvention, values.get("gripper", {}))
        known = _known("action", ActionSpec, values)
        try:
            return ActionSpec(**{**known, "gripper": GripperConvention(**gripper)})
        except TypeError as error:  # an entry is missing
            raise ValueError(f"action: {error}") from None


def _choose(name: str, value: str | None, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f"{name} is {value!r}; valid: {', '.join(valid)}")


def _known(where: str, kind: type, values: Any) -> dict[str, Any]:
    valid = [one.name for one in fields(kind)]
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; valid: a mapping with {', '.join(valid)}")
    unknown = sorted(set(values) - set(valid))
    if unknown:
        raise ValueError(f"{where} has unknown {', '.join(unknown)}; valid: {', '.join(valid)}")
    return dict(values)


# The nano π0's actions: the commanded tool pose relative to the observed one, T_obs^-1 T_cmd, in
# the observed tool frame, and the gripper's opening in m.
NANO_PI0_ACTION = ActionSpec(
    quantity="pose", relative_to="observation", rotation="6d", frame="tool"
)
ACTION_DIM = NANO_PI0_ACTION.dim
