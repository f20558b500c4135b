# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from vla_policy.state_encoding import encode_state, state_names
from vla_policy.types import RobotState


def test_state_has_one_value_per_name() -> None:
    names = state_names([f"joint{i}" for i in range(7)])
    state = RobotState(0, np.arange(7.0), np.zeros(7), 0.08, np.eye(4))
    encoded = encode_state(state)
    assert len(names) == len(encoded) == 24
    assert encoded[names.index("q/joint3")] == 3.0
    assert encoded[names.index("gripper_opening")] == 0.08
