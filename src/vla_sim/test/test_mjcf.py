# SPDX-License-Identifier: Apache-2.0
"""A written scene is the one that the simulation runs."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from vla_sim import mjcf, scene
from vla_sim.simulation import Simulation

SIZE = 96


def test_a_written_scene_looks_and_moves_as_in_the_simulation(
    robot_name: str, tmp_path: Path
) -> None:
    sim = Simulation(robot_name, "touch", 3)
    path = tmp_path / "scene.xml"
    mjcf.write_mjcf(sim.robot, sim.instance.layout, path, image_size=SIZE)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(mjcf.START).id)
    mujoco.mj_forward(model, data)

    for name in sim.robot.joint_names:
        assert model.actuator(name).trnid[0] == model.joint(name).id
    for camera in scene.CAMERAS:
        assert list(model.cam_resolution[model.camera(camera).id]) == [SIZE, SIZE]
        with mujoco.Renderer(model, SIZE, SIZE) as renderer:
            renderer.update_scene(data, camera)
            seen = renderer.render().astype(int)
        expected = sim.render(camera).astype(int)
        # The file has six digits of what the simulation has all of.
        assert np.mean(np.abs(seen - expected) > 2) < 1e-3

    same = mujoco.MjData(sim.model)
    scene.lay(sim.model, same, sim.robot, sim.instance.layout)
    for index, name in enumerate(sim.robot.joint_names):
        data.actuator(name).ctrl = same.actuator(name).ctrl = 0.1 * (index + 1)
    for _ in range(200):
        mujoco.mj_step(model, data)
        mujoco.mj_step(sim.model, same)
    for name in sim.robot.joint_names:
        assert data.joint(name).qpos == pytest.approx(same.joint(name).qpos, abs=1e-4)
    assert np.abs(data.qvel).max() > 0.01  # it has moved


def test_a_written_gripper_takes_positions_with_both_fingers(
    robot_name: str, tmp_path: Path
) -> None:
    sim = Simulation(robot_name, "touch", 3, cameras=())
    path = tmp_path / "scene.xml"
    mjcf.write_mjcf(sim.robot, sim.instance.layout, path, image_size=SIZE)
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(mjcf.START).id)
    first, second = sim.robot.finger_joint_names
    start = data.joint(first).qpos[0]
    for goal in (start, 0.01):
        data.actuator(first).ctrl = goal if goal != start else data.actuator(first).ctrl
        largest = 0.0
        for _ in range(500):
            mujoco.mj_step(model, data)
            largest = max(largest, abs(data.actuator(first).force[0]))
        for name in (first, second):
            assert data.joint(name).qpos[0] == pytest.approx(goal, abs=1e-3)
        assert largest <= 2.0 * sim.robot.default_gripper_force
    with pytest.raises(KeyError):
        model.actuator(second)
