# SPDX-License-Identifier: Apache-2.0
"""A policy behind a server is the policy itself, also for several robots at once."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeObservation
from servers import remote, served

from vla_control import RobotModel
from vla_policy.checkpoint import load_policy
from vla_policy.continuation import Continuation
from vla_policy.interface import ActItem
from vla_policy.policy import NanoPi0Policy
from vla_policy.schedules import SCHEDULES, make_schedule
from vla_policy.serving import messages, openpi
from vla_policy.serving.batching import Batcher
from vla_policy.serving.client import ServerUnreachableError
from vla_policy.serving.service import InferItem, Service, Session
from vla_policy.types import ObservationMismatchError, PolicyError, RobotState
from vla_sim import robots


@pytest.mark.parametrize("ahead", [False, True])
def test_it_is_the_policy_itself(
    address: str, checkpoint: Path, observation: FakeObservation, ahead: bool
) -> None:
    local, far = load_policy(checkpoint), remote(address, encode_ahead=ahead)
    assert far.spec == local.spec
    for seed in (0, 7):
        local.reset(seed)
        far.reset(seed)
        for _ in range(2):
            ours = local.act(local.encode(observation), RobotState.of(observation))
            theirs = far.act(far.encode(observation), RobotState.of(observation))
            for field in dataclasses.fields(ours):
                np.testing.assert_array_equal(
                    getattr(theirs, field.name), getattr(ours, field.name), field.name
                )


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_do_behind_a_server_what_they_do_here(
    address: str, checkpoint: Path, observation: FakeObservation, name: str, ahead: bool
) -> None:
    """Also those that need the flow (rtc) or another state than the observation's (vlash)."""
    arm = RobotModel(robots.get("panda").description())
    q = np.array([0.1, -0.4, 0.0, -2.2, 0.1, 1.9, 0.8])
    runs = []
    for policy in (load_policy(checkpoint), remote(address, encode_ahead=ahead)):
        policy.reset(4)
        plan = make_schedule(name, policy, 0.2, arm)
        runs.append([])
        for step in (0, 8, 19):  # the last one between two steps of the chunk before
            now = dataclasses.replace(
                observation,
                stamp_ns=50_000_000 * step + 1_000_000 * (step == 19),
                q=q + 0.01 * step,
                pose_tool_in_base=arm.forward_kinematics(q + 0.01 * step),
            )
            chunk = plan.act(policy, policy.encode(now), RobotState.of(now))
            runs[-1].append(plan.deliver(chunk, now.stamp_ns + 200_000_000))
    for ours, theirs in zip(*runs, strict=True):
        for field in dataclasses.fields(ours):
            np.testing.assert_array_equal(
                getattr(theirs, field.name), getattr(ours, field.name), field.name
            )
    assert runs[0][1].conditioned_steps == (4 if name.startswith("rtc") else 0)


def test_a_context_that_was_inferred_from_can_be_acted_on_again(
    address: str, checkpoint: Path, observation: FakeObservation
) -> None:
    state = RobotState.of(observation)
    later = dataclasses.replace(state, q=state.q + 0.1)
    local, far = load_policy(checkpoint), remote(address, encode_ahead=False)
    contexts = [policy.encode(observation) for policy in (local, far)]
    for now in (state, later, state):
        ours, theirs = (p.act(c, now) for p, c in zip((local, far), contexts, strict=True))
        np.testing.assert_array_equal(theirs.commanded, ours.commanded)


def test_a_bad_observation_in_a_batch_of_whole_inferences_spoils_no_other(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    state, bad = RobotState.of(observation), dataclasses.replace(observation, instruction=" ")
    nan = dataclasses.replace(state, q=np.full(7, np.nan))
    session = Session()
    wanted = [
        InferItem(session, observation, state),
        InferItem(session, bad, state),
        InferItem(session, observation, nan),
    ]
    (context, chunk), *errors = Service(policy).infer(wanted)
    assert (context.inference_id, chunk.inference_id) == (0, 0)
    assert [type(error) for error in errors] == [ObservationMismatchError] * 2


def test_robots_that_go_on_from_chunks_of_their_own_share_a_batch(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    context, state = policy.encode(observation), RobotState.of(observation)
    plain = policy.act(context, state)
    items = [ActItem(context, state, 0)]
    for share in (0.0, 0.5, 1.0):
        weights = np.full(16, share)
        moved = plain.commanded + 0.02 * (np.arange(4) == 3)
        items.append(
            ActItem(context, state, 0, Continuation(moved, plain.gripper_opening, weights))
        )
    service = Service(policy)
    together = service.act(items)
    alone = [service.act([item])[0] for item in items]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.commanded, other.commanded, atol=1e-5)
    np.testing.assert_allclose(together[1].commanded, plain.commanded, atol=1e-5)
    assert np.abs(together[3].commanded - plain.commanded).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commanded": np.zeros((8, 7))}, r"references \(7,\)"),
        ({"commanded": np.full((8, 4, 4), np.nan)}, "finite"),
        ({"weights": np.zeros(15)}, r"weights \(15,\)"),
        ({"weights": np.full(16, 2.0)}, "between 0 and 1"),
        ({"gripper_opening": np.zeros(3)}, "openings"),
        ({"commanded": "poses"}, "cannot be used"),
        ({"max_weight": -1.0}, "max_weight is -1.0; valid: 0 or more"),
        ({"max_weight": np.nan}, "finite"),
    ],
)
def test_continuations_that_cannot_be_used(
    policy: NanoPi0Policy, change: dict[str, Any], message: str
) -> None:
    good = {
        "commanded": np.tile(np.eye(4), (8, 1, 1)),
        "gripper_opening": np.zeros(8),
        "weights": np.zeros(16),
        "max_weight": 5.0,
    }
    assert messages.to_continuation(good, policy.spec) is not None
    with pytest.raises(ObservationMismatchError, match=message):
        messages.to_continuation({**good, **change}, policy.spec)


def test_a_server_without_a_flow_cannot_chunk_in_real_time(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    policy.has_flow = False
    with served(policy) as (address, _):
        far = remote(address)
        with pytest.raises(ValueError, match="'rtc' needs a policy with a flow"):
            make_schedule("rtc", far, 0.1)
        with pytest.raises(messages.SchemaMismatchError, match="has_flow: the server has False"):
            remote(address, {"has_flow": True})
        context, state = far.encode(observation), RobotState.of(observation)
        rest = Continuation(np.tile(np.eye(4), (8, 1, 1)), np.zeros(8), np.zeros(16))
        with pytest.raises(PolicyError, match="no flow"):
            far.act(context, state, rest)
        with pytest.raises(PolicyError, match="no function of its flow"):
            far.act(context, state, lambda velocity: velocity)
        far.act(context, state)


def test_encoding_and_acting_may_be_two_threads(address: str, observation: FakeObservation) -> None:
    far, state = remote(address, call_timeout=30.0), RobotState.of(observation)
    contexts = [far.encode(observation)]

    def encode() -> int:
        for _ in range(20):
            contexts.append(far.encode(observation))
            time.sleep(0.02)  # as images come
        return len(contexts)

    with ThreadPoolExecutor(1) as pool:
        encoded = pool.submit(encode)
        acted = 0
        while not encoded.done() or acted < 20:
            assert np.isfinite(far.act(contexts[-1], state).commanded).all()
            acted += 1
        assert encoded.result() == 21


def test_robots_that_share_a_server_do_not_disturb_each_other(
    policy: NanoPi0Policy, checkpoint: Path, observation: FakeObservation
) -> None:
    local = load_policy(checkpoint)
    local.reset(3)
    expected = [
        local.act(local.encode(observation), RobotState.of(observation)).poses_tool_in_base
        for _ in range(4)
    ]
    with served(policy) as (address, server):

        def robot(_: int) -> list[Any]:
            far = remote(address, call_timeout=30.0)
            far.reset(3)
            return [
                far.act(far.encode(observation), RobotState.of(observation)).poses_tool_in_base
                for _ in range(4)
            ]

        with ThreadPoolExecutor(6) as pool:
            for poses in pool.map(robot, range(6)):
                np.testing.assert_allclose(poses, expected, atol=1e-5)
        assert server.batcher.items == 48
        assert server.batcher.batches < 48, "nothing was computed together"


@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_inference_lets_other_robots_connect(
    policy: NanoPi0Policy,
    observation: FakeObservation,
    monkeypatch: pytest.MonkeyPatch,
    one_by_one: bool,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    infer = Service.infer

    def slow(service: Service, requests: Any) -> Any:
        begun.set()
        assert go_on.wait(20.0)
        return infer(service, requests)

    monkeypatch.setattr(Service, "infer", slow)
    if one_by_one:  # the positive control: a server without threads
        monkeypatch.setattr("vla_policy.serving.listener.Thread", AtOnce)
    with served(policy) as (address, _), ThreadPoolExecutor(1) as pool:
        busy = remote(address, encode_ahead=False, call_timeout=30.0)
        state = RobotState.of(observation)
        chunk = pool.submit(lambda: busy.act(busy.encode(observation), state))
        try:
            assert begun.wait(10.0)
            if one_by_one:
                with pytest.raises(ServerUnreachableError, match="no policy server"):
                    remote(address, connect_timeout=0.5)
            else:
                remote(address, connect_timeout=10.0).reset(1)
        finally:
            go_on.set()
        assert np.isfinite(chunk.result().commanded).all()
        busy.close()


class AtOnce(threading.Thread):
    """A thread that is none."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """It is over."""


def test_what_waits_together_is_computed_together_in_order() -> None:
    begun, go_on = threading.Event(), threading.Event()
    batches: list[tuple[str, list[int]]] = []

    def compute(kind: str, items: Any) -> list[Any]:
        batches.append((kind, list(items)))
        begun.set()
        assert go_on.wait(20.0)
        return [ValueError(item) if item == 3 else 10 * item for item in items]

    kinds = {kind: lambda items, kind=kind: compute(kind, items) for kind in "ab"}
    batcher = Batcher(kinds, max_batch=3, max_waiting=5)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(batcher.submit, "a", 0)]
        assert begun.wait(20.0)
        for count, (kind, item) in enumerate(zip("aaaab", range(1, 6), strict=True), 1):
            answers.append(pool.submit(batcher.submit, kind, item))
            while len(batcher._waiting) < count:
                time.sleep(0.001)
        with pytest.raises(PolicyError, match="too much to do"):
            batcher.submit("a", 6)
        go_on.set()
        for item in (0, 1, 2, 4, 5):
            assert answers[item].result(20.0) == 10 * item
        with pytest.raises(ValueError, match="3"):
            answers[3].result(20.0)
    assert batches == [("a", [0]), ("a", [1, 2, 3]), ("a", [4]), ("b", [5])]


def test_a_bad_observation_in_a_batch_spoils_no_other(
    policy: NanoPi0Policy, observation: FakeObservation
) -> None:
    bad = dataclasses.replace(observation, instruction=" ")
    with served(policy) as (address, _):

        def robot(number: int) -> str:
            far = remote(address, call_timeout=30.0)
            try:
                far.encode(bad if number % 2 else observation)
            except ObservationMismatchError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(robot, range(12)))
    assert all(bool(answer) == bool(number % 2) for number, answer in enumerate(answers))


def test_a_client_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys, vla_policy.serving.client, vla_policy.schedules; "
        "print(sorted({'torch', 'transformers', 'rclpy', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- openpi's protocol ----------------------------------------------------------------------------


def openpi_observation(observation: FakeObservation) -> dict[str, Any]:
    return {
        **{openpi.IMAGE + name: image for name, image in observation.images.items()},
        "observation/joint_position": observation.q,
        "observation/joint_velocity": observation.dq,
        "observation/gripper_opening": observation.gripper_opening,
        "observation/pose_tool_in_base": observation.pose_tool_in_base,
        "prompt": observation.instruction,
    }


def test_an_openpi_client_gets_the_policys_actions(
    address: str, checkpoint: Path, observation: FakeObservation
) -> None:
    client = pytest.importorskip("openpi_client.websocket_client_policy")
    host, port = address.split(":")
    far = client.WebsocketClientPolicy(host, int(port))
    told = far.get_server_metadata()
    assert set(told["observation"]) == set(openpi_observation(observation))
    local = load_policy(checkpoint)
    chunk = local.act(local.encode(observation), RobotState.of(observation))
    spec = local.spec
    expected = spec.action.encode(
        observation.pose_tool_in_base, chunk.poses_tool_in_base, chunk.gripper_opening
    )
    answer = far.infer(openpi_observation(observation))
    np.testing.assert_allclose(answer["actions"], expected, atol=1e-6)
    assert answer["server_timing"]["infer_ms"] > 0.0
    with pytest.raises(RuntimeError, match="lacks prompt"):
        far.infer({k: v for k, v in openpi_observation(observation).items() if k != "prompt"})
