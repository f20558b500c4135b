# SPDX-License-Identifier: Apache-2.0
"""What sending an observation and getting a chunk back costs, without any policy's own time.

Beside our server stands openpi's: the loop of its ``WebsocketPolicyServer`` (unpack, infer, pack on
an asyncio websocket), asked by the unmodified ``openpi-client``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_data.observation import Observation

from ..continuation import Continuation
from ..interface import ActItem, BatchPolicy, Context
from ..memory import keep_memory
from ..serving import openpi, wire
from ..serving.client import ClientConfig, RemotePolicy
from ..serving.server import PolicyServer, ServerConfig
from ..spec import PolicySpec
from ..types import ActionChunk, ObservationLike, RobotState

if TYPE_CHECKING:
    from ..samplers import Guidance

# Height and width of each of the two images.
SIZES = {"2x224": (224, 224), "2x640x480": (480, 640)}
_HORIZON = 16


class _Idle(BatchPolicy):
    """Answers with the same chunk, at once."""

    spec = PolicySpec(
        cameras=("scene", "wrist"),
        image_size=224,
        joint_names=tuple(f"joint{i}" for i in range(7)),
        state_names=(),
        horizon=_HORIZON,
        step_dt=0.05,
        execute_steps=8,
        feature_name="none",
        feature_shape=(1, _HORIZON, 1),
        latency_s=0.0,
        robot="none",
    )

    def reset(self, seed: int = 0) -> None:
        """Nothing to do."""

    def encode(self, observation: ObservationLike) -> Context:
        """A context of nothing."""
        return self.encode_batch([(observation, 0)])[0]

    def encode_batch(self, items: Sequence[tuple[ObservationLike, int]]) -> list[Context]:
        """Contexts of nothing."""
        return [Context(one.stamp_ns, one.instruction, count, None) for one, count in items]

    def act(
        self,
        context: Context,
        state: RobotState,
        guidance: Guidance | Continuation | None = None,
    ) -> ActionChunk:
        """The chunk."""
        return self.act_batch([ActItem(context, state, 0)])[0]

    def act_batch(self, items: Sequence[ActItem]) -> list[ActionChunk]:
        """The same chunk for all, made beforehand as openpi's server here has it."""
        return [_CHUNK] * len(items)


_CHUNK = ActionChunk(
    stamp_ns=1,
    step_dt=0.05,
    commanded=np.tile(np.eye(4), (_HORIZON, 1, 1)),
    gripper_opening=np.zeros(_HORIZON),
    features=np.zeros((1, _HORIZON, 1), dtype=np.float32),
    inference_id=0,
    policy_id="",
)


def run(rounds: int = 200) -> dict[str, float]:
    """Round trips over loopback, ms: ours, openpi's, and openpi's client at our server.

    The three take turns, so that other work on the machine meets all of them alike.

    Args:
        rounds: Round trips of each.

    Returns:
        ``transport_<size>_<pair>_p50_ms`` and ``_p99_ms``; pairs ``ours``, ``openpi``,
        ``openpi_client`` (the last two only where ``openpi-client`` is installed), and
        ``transport_<size>_over_openpi_ratio``, the median of the ratios within each turn.
    """
    keep_memory()  # as `vla serve` and the node do
    process = multiprocessing.get_context("spawn")
    pipes, servers = [], []
    for target in (_serve_ours, _serve_openpi, _serve_ours):  # each with one client
        here, there = process.Pipe()
        server = process.Process(target=target, args=(there,), daemon=True)
        server.start()
        pipes.append(here)
        servers.append(server)
    try:
        ports = [pipe.recv() for pipe in pipes]
        figures: dict[str, float] = {}
        for size, (height, width) in SIZES.items():
            figures.update(_compare(size, _observation(height, width), ports, rounds))
        return figures
    finally:
        for server in servers:
            server.terminate()
            server.join(10.0)


def round_trips(observation: Observation, rounds: int) -> tuple[float, float]:
    """Median and 99th percentile of our round trip with an observation, ms."""
    process = multiprocessing.get_context("spawn")
    here, there = process.Pipe()
    server = process.Process(target=_serve_ours, args=(there,), daemon=True)
    server.start()
    try:
        far = RemotePolicy(ClientConfig(f"ws://127.0.0.1:{here.recv()}", call_timeout=10.0))
        state = RobotState.of(observation)
        taken = []
        for _ in range(rounds + 5):
            began = time.perf_counter()
            far.act(far.encode(observation), state)
            taken.append(1e3 * (time.perf_counter() - began))
    finally:
        server.terminate()
        server.join(10.0)
    return statistics.median(taken[5:]), float(np.quantile(taken[5:], 0.99))


def _compare(
    size: str, observation: Observation, ports: Sequence[int], rounds: int
) -> dict[str, float]:
    calls: dict[str, Callable[[], Any]] = {}
    far = RemotePolicy(ClientConfig(f"ws://127.0.0.1:{ports[0]}", call_timeout=10.0))
    state = RobotState.of(observation)
    calls["ours"] = lambda: far.act(far.encode(observation), state)
    if importlib.util.find_spec("openpi_client") is not None:
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        message = openpi.from_observation(observation)
        theirs = WebsocketClientPolicy("127.0.0.1", ports[1])
        mixed = WebsocketClientPolicy("127.0.0.1", ports[2])
        calls["openpi"] = lambda: theirs.infer(message)
        calls["openpi_client"] = lambda: mixed.infer(message)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 5):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 5:  # the first ones warm caches up
                times[name].append(1e3 * (time.perf_counter() - began))
    far.close()  # the next ones shall be alone, too
    if "openpi" in calls:
        theirs._ws.close()
        mixed._ws.close()
    figures = {}
    for name, taken in times.items():
        figures[f"transport_{size}_{name}_p50_ms"] = statistics.median(taken)
        figures[f"transport_{size}_{name}_p99_ms"] = float(np.quantile(taken, 0.99))
    if "openpi" in times:
        ratios = np.array(times["ours"]) / np.array(times["openpi"])
        figures[f"transport_{size}_over_openpi_ratio"] = float(np.median(ratios))
    return figures


def _observation(height: int, width: int) -> Observation:
    rng = np.random.default_rng(0)
    return Observation(
        stamp_ns=1,
        images={
            camera: rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for camera in _Idle.spec.cameras
        },
        q=np.zeros(7),
        dq=np.zeros(7),
        gripper_opening=0.0,
        instruction="pick up the red cube",
        pose_tool_in_base=np.eye(4),
    )


def _serve_ours(pipe: Pipe) -> None:
    keep_memory()
    PolicyServer(_Idle(), ServerConfig(port=0)).run(pipe.send)


def _serve_openpi(pipe: Pipe) -> None:
    import msgpack
    from websockets.asyncio.server import ServerConnection, serve

    actions = np.zeros((_HORIZON, 10), dtype=np.float32)

    async def handler(connection: ServerConnection) -> None:
        await connection.send(wire.pack({}))
        async for data in connection:
            assert isinstance(data, bytes)
            msgpack.unpackb(data, object_hook=_array, strict_map_key=False)
            await connection.send(wire.pack({"actions": actions, "server_timing": {}}))

    async def main() -> None:
        options: dict[str, Any] = {"compression": None, "max_size": None}
        async with serve(handler, "127.0.0.1", 0, **options) as server:
            pipe.send(next(iter(server.sockets)).getsockname()[1])
            await server.serve_forever()

    asyncio.run(main())


def _array(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        dtype = np.dtype(value[b"dtype"])
        return np.ndarray(buffer=value[b"data"], dtype=dtype, shape=value[b"shape"])
    return value
