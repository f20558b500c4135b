# SPDX-License-Identifier: Apache-2.0
"""Off-screen images of a scene, drawn from joint positions."""

from __future__ import annotations

from types import TracebackType

import mujoco
import numpy as np
from mujoco.egl import GLContext

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
        self._gl: GLContext | None = None
        self._model = model
        self._data = mujoco.MjData(model)
        big = max(width, height) >= SHADOWS_FROM_SIZE
        # These settings of the model count when a context is made.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.vis.quality.offsamples = 4 if big else 0
        model.vis.quality.shadowsize = 2048 if big else 256
        self._gl = GLContext(width, height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=400)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = big if shadows is None else shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._options = mujoco.MjvOption()
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def render(
        self,
        camera: str,
        qpos: FloatArray,
        props: FloatArray,
    ) -> ImageArray:
        """Return an image, shape (height, width, 3), RGB.

        Args:
            camera: Name of a camera of the model.
            qpos: Joint positions of everything in the scene.
            props: Poses of all that stands fast, as ``scene.prop_poses`` gives them.
        """
        if self._gl is None:
            raise RuntimeError("the renderer is closed")
        data = self._data
        data.qpos[:] = qpos
        data.mocap_pos[:], data.mocap_quat[:] = props[:, :3], props[:, 3:]
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            self._perturb,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        self._gl.make_current()
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        # OpenGL counts rows from below.
        return np.flipud(self._pixels).copy()

    def close(self) -> None:
        """Free the graphics context."""
        if self._gl is not None:
            with self._gl.as_current():
                self._context.free()
            self._gl.free()
            self._gl = None

    def __del__(self) -> None:
        # Left to itself, MuJoCo's context deletes its buffers by number in whatever OpenGL context
        # is current: those of another renderer, whose images never change from then on.
        self.close()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
