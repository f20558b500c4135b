# SPDX-License-Identifier: Apache-2.0
"""Off-screen images of a scene, drawn from joint positions."""

from __future__ import annotations

from types import TracebackType

import mujoco
import numpy as np

from vla_sim.typing import FloatArray, ImageArray

# Shadows cost 5 ms of a small image on a software renderer, against 1.5 ms for all the rest.
SHADOWS_FROM_SIZE = 200


class Renderer:
    """Draws one size of images; owns its MuJoCo data, so it never touches a running simulation.

    Use it in one thread only.

    Args:
        model: The scene; its look is read at every image.
        width: Of the images, px.
        height: Of the images, px.
        shadows: Whether to cast shadows; None = only in images of at least 200 px.
    """

    def __init__(
        self, model: mujoco.MjModel, width: int, height: int, *, shadows: bool | None = None
    ) -> None:
        if width <= 0 or height <= 0:
            raise ValueError(f"the image size {width}x{height} must be positive")
        self._model = model
        self._data = mujoco.MjData(model)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        big = max(width, height) >= SHADOWS_FROM_SIZE
        model.vis.quality.offsamples = 4 if big else 0
        model.vis.quality.shadowsize = 2048 if big else 256
        self._renderer = mujoco.Renderer(model, height, width)
        flag = mujoco.mjtRndFlag
        self._renderer.scene.flags[flag.mjRND_SHADOW] = big if shadows is None else shadows
        self._renderer.scene.flags[flag.mjRND_REFLECTION] = False

    def render(
        self,
        camera: str,
        qpos: FloatArray,
        mocap_pos: FloatArray,
    ) -> ImageArray:
        """Return an image, shape (height, width, 3), RGB.

        Args:
            camera: Name of a camera of the model.
            qpos: Joint positions of everything in the scene.
            mocap_pos: Positions of bowl and zone, m.
        """
        data = self._data
        data.qpos[:] = qpos
        data.mocap_pos[:] = mocap_pos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._renderer.update_scene(data, camera)
        return np.array(self._renderer.render(), dtype=np.uint8)

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
