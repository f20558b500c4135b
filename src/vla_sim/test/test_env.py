# SPDX-License-Identifier: Apache-2.0
"""The environments are proper gymnasium environments."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.spatial.transform import Rotation

from vla_sim import robots, seeds, tasks
from vla_sim.env import ManipulationEnv, make_env
from vla_sim.experts import make_expert


@pytest.mark.parametrize(("robot", "control"), [("panda", "chunk"), ("ur5", "pose")])
def test_gymnasium_is_content(robot: str, control: str) -> None:
    env = make_env("pick", robot, control, render_mode="rgb_array")  # type: ignore[arg-type]
    with warnings.catch_warnings():
        # Positions are not symmetric and unbounded joints are on purpose.
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=False)
    env.close()


def _expert_action(env: ManipulationEnv) -> np.ndarray:
    poses, openings = make_expert(env.sim).plan(env.sim)
    quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    return np.column_stack((poses[:, :3, 3], quats, openings))


def test_expert_solves_it_through_chunks() -> None:
    env = make_env("touch")
    env.reset(seed=1)
    for _ in range(20):
        _, reward, terminated, truncated, info = env.step(_expert_action(env))
        assert info["reject_reason"] == "NONE"
        if terminated or truncated:
            break
    assert terminated
    assert reward == 1.0
    assert info["success"]
    env.close()


def test_poses_are_approached() -> None:
    env = make_env("touch", control="pose")
    observation, _ = env.reset(seed=2)
    action = np.append(observation["pose_tool_in_base"], 0.08)
    action[:3] += [0.05, 0.04, -0.05]
    for _ in range(12):
        observation, _, _, _, info = env.step(action)
        assert info["reject_reason"] == "NONE"
    assert np.linalg.norm(observation["pose_tool_in_base"][:3] - action[:3]) < 0.006
    env.close()


def test_episodes_are_truncated() -> None:
    env = make_env("pick", time_limit_s=0.8)
    env.reset(seed=3)
    still = np.zeros(env.action_space.shape)
    _, _, terminated, truncated, info = env.step(still)
    assert not terminated
    assert not truncated
    assert info["reject_reason"] != "NONE", "a chunk of zeros must not be followed"
    _, _, terminated, truncated, _ = env.step(still)
    assert not terminated
    assert truncated
    env.close()


def test_scenes_are_of_the_purpose() -> None:
    env = make_env("pick", purpose="rollouts")
    _, info = env.reset(seed=4)
    assert seeds.purpose_of(info["seed"]) == "rollouts"
    _, again = env.reset(seed=4)
    assert again["seed"] == info["seed"]
    with pytest.raises(seeds.SeedError):
        env.reset(options={"scene_seed": 0})
    env.close()


def test_unknown_names_are_listed() -> None:
    with pytest.raises(tasks.TaskError, match="pick"):
        make_env("fly")
    with pytest.raises(robots.RobotError, match="ur5"):
        make_env("pick", "atlas")
    with pytest.raises(ValueError, match="chunk, pose"):
        make_env("pick", control="torque")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="latency_s"):
        make_env("pick", latency_s=0.9)
