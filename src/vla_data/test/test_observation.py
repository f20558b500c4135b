# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vla_data import Observation, ObservationError


def fields(**changes):
    values = {
        "stamp_ns": 7,
        "images": {"scene": np.zeros((8, 6, 3), np.uint8)},
        "q": np.zeros(7),
        "dq": np.zeros(7),
        "gripper_opening": 0.04,
        "instruction": "pick up the red block",
        "pose_tool_in_base": np.eye(4),
    }
    return {**values, **changes}


def bent(row, column, value):
    pose = np.eye(4)
    pose[row, column] = value
    return pose


def test_good_observation_keeps_its_arrays_without_a_copy():
    values = fields()
    observation = Observation(**values)
    assert observation.images["scene"] is values["images"]["scene"]
    assert observation.q is values["q"]
    with pytest.raises(AttributeError):
        observation.stamp_ns = 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stamp_ns": 1.5}, "stamp_ns: is float"),
        ({"stamp_ns": True}, "stamp_ns: is bool"),
        ({"stamp_ns": -1}, "stamp_ns: is negative"),
        ({"images": [np.zeros((8, 6, 3), np.uint8)]}, "images: is not a mapping"),
        ({"images": {"wrist": np.zeros((3, 8, 6), np.uint8)}}, r"camera 'wrist': .*\(3, 8, 6\)"),
        ({"images": {"wrist": np.zeros((8, 6), np.uint8)}}, r"camera 'wrist': .*\(8, 6\)"),
        ({"images": {"wrist": np.zeros((8, 6, 4), np.uint8)}}, "camera 'wrist': has shape"),
        ({"images": {"wrist": np.zeros((0, 6, 3), np.uint8)}}, "camera 'wrist': is empty"),
        ({"images": {"wrist": np.zeros((8, 6, 3))}}, "camera 'wrist': has dtype float64"),
        ({"images": {"wrist": "black"}}, "camera 'wrist': is str"),
        ({"q": np.zeros(7, int)}, "q: is int64"),
        ({"q": [0.0] * 7}, "q: is list"),
        ({"q": np.zeros((1, 7))}, r"q: has shape \(1, 7\)"),
        ({"q": np.array([0, 0, np.nan, 0, 0, 0, 0])}, "q: is nan at joint 2"),
        ({"dq": np.array([0, np.inf, 0, 0, 0, 0, 0])}, "dq: is inf at joint 1"),
        ({"dq": np.zeros(6)}, "dq: has 6 values where q has 7"),
        ({"gripper_opening": "wide"}, "gripper_opening: is str"),
        ({"gripper_opening": float("nan")}, "gripper_opening: is nan"),
        ({"instruction": None}, "instruction: is NoneType"),
        ({"pose_tool_in_base": np.eye(3)}, r"pose_tool_in_base: has shape \(3, 3\)"),
        ({"pose_tool_in_base": bent(0, 3, np.nan)}, "pose_tool_in_base: .*not finite"),
        ({"pose_tool_in_base": bent(3, 0, 1.0)}, "pose_tool_in_base: has the last row"),
        ({"pose_tool_in_base": bent(0, 0, 1.1)}, "pose_tool_in_base: .*off orthonormal"),
        ({"pose_tool_in_base": bent(0, 0, -1.0)}, "pose_tool_in_base: has a reflection"),
    ],
)
def test_every_bad_part_is_named(changes, message):
    with pytest.raises(ObservationError, match=message):
        Observation(**fields(**changes))


def test_single_precision_from_a_camera_driver_is_accepted():
    observation = Observation(**fields(q=np.zeros(7, np.float32), dq=np.zeros(7, np.float32)))
    assert observation.q.dtype == np.float32
