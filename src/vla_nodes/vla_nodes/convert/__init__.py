# SPDX-License-Identifier: Apache-2.0
"""All conversions between messages and the types of the cores.

Conversions from messages fail closed: they raise :class:`ConversionError` with a named reason and
never repair a value. Quaternions are xyzw, as in the messages; poses are homogeneous 4x4 matrices.
"""

from vla_nodes.convert.chunks import (
    from_action_chunk,
    to_action_chunk,
    to_joint_chunk,
    to_pose_chunk,
)
from vla_nodes.convert.geometry import (
    QUATERNION_TOLERANCE,
    SECOND,
    ConversionError,
    Reason,
    from_pose,
    from_poses,
    from_time,
    from_twist,
    from_wrench,
    header,
    matrix_to_quat_xyzw,
    quat_xyzw_to_matrix,
    to_pose,
    to_poses,
    to_time,
    to_transform,
    to_twist,
    to_wrench,
)
from vla_nodes.convert.sensors import (
    pinhole,
    to_camera_info,
    to_compressed_image,
    to_image,
    to_joint_state,
)
from vla_nodes.convert.states import (
    known,
    pass_heartbeat,
    to_control_owner,
    to_controller_state,
    to_episode_event,
    to_outcome,
    to_task_status,
)

__all__ = [
    "QUATERNION_TOLERANCE",
    "SECOND",
    "ConversionError",
    "Reason",
    "from_action_chunk",
    "from_pose",
    "from_poses",
    "from_time",
    "from_twist",
    "from_wrench",
    "header",
    "known",
    "matrix_to_quat_xyzw",
    "pass_heartbeat",
    "pinhole",
    "quat_xyzw_to_matrix",
    "to_action_chunk",
    "to_camera_info",
    "to_compressed_image",
    "to_control_owner",
    "to_controller_state",
    "to_episode_event",
    "to_image",
    "to_joint_chunk",
    "to_joint_state",
    "to_outcome",
    "to_pose",
    "to_pose_chunk",
    "to_poses",
    "to_task_status",
    "to_time",
    "to_transform",
    "to_twist",
    "to_wrench",
]
