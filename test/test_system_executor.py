# SPDX-License-Identifier: Apache-2.0
"""policy_node answers while its policy computes: inference is not on the executor's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from vla_msgs.srv import LoadPolicy
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.scripted import CirclePolicy
from vla_nodes.inference.worker import Assignment
from vla_nodes.node_tools import refuse_impossible_transitions
from vla_nodes.policy_node import PolicyNode

COMPUTE = 1.5  # s per inference
SOON = 20.0  # s


class Busy(CirclePolicy):
    """Computes for a while, as a network does: in numpy, with and without the GIL."""

    def act(self, context: object, state: object, guidance: object = None) -> object:
        if state.stamp_ns == 0:  # type: ignore[attr-defined]
            return super().act(context, state)  # warms up
        entered.set()
        matrix = np.random.default_rng(0).random((200, 200))
        deadline = time.monotonic() + COMPUTE
        while time.monotonic() < deadline:
            matrix = np.tanh(matrix @ matrix)
        return super().act(context, state)


entered = threading.Event()


def make_policy(config: PolicyConfig) -> Busy:
    """The policy, another one after a while, or none."""
    if config.checkpoint == "nowhere":
        raise ValueError("no checkpoint folder at nowhere")
    if config.checkpoint == "another":
        time.sleep(COMPUTE)
    policy = Busy(config.joint_names, cameras=())
    policy.spec = replace(policy.spec, policy_id=config.checkpoint)
    return policy


@pytest.fixture
def node(domain: int) -> Iterator[PolicyNode]:
    rclpy.init(domain_id=domain + 5)
    made = PolicyNode(make_policy)
    refuse_impossible_transitions(made)
    executor = SingleThreadedExecutor()
    executor.add_node(made)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield made
    made.close()
    rclpy.shutdown()
    thread.join(SOON)


def call(client: object, request: object) -> object:
    """The answer of a service; another thread spins."""
    assert client.wait_for_service(SOON)  # type: ignore[attr-defined]
    future = client.call_async(request)  # type: ignore[attr-defined]
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(SOON)
    return future.result()


def test_services_answer_during_an_inference(node: PolicyNode) -> None:
    entered.clear()
    change = node.create_client(ChangeState, "policy/change_state")
    state = node.create_client(GetState, "policy/get_state")
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(change, request).success  # type: ignore[attr-defined]
    thread = node._thread
    assert thread is not None
    thread._observe = lambda now_ns, instruction: _observation(now_ns)
    thread.assign(Assignment(True, "trace a circle", 1, 0, (1, 1)))
    assert entered.wait(SOON)
    answers = 0
    began = time.monotonic()
    while time.monotonic() - began < 0.5 * COMPUTE:
        before = time.monotonic()
        call(state, GetState.Request())
        assert time.monotonic() - before < 0.5 * COMPUTE, "the executor was blocked"
        answers += 1
    assert answers > 3
    assert thread.statistics.inferences == 0, "the inference was still under way"
    deadline = time.monotonic() + SOON
    while not thread.statistics.inferences:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_impossible_transition_is_refused(node: PolicyNode) -> None:
    change = node.create_client(ChangeState, "policy/change_state")
    for transition, possible in (
        (Transition.TRANSITION_ACTIVATE, False),
        (200, False),
        (Transition.TRANSITION_CONFIGURE, True),
        (Transition.TRANSITION_CONFIGURE, False),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(change, request).success == possible  # type: ignore[attr-defined]


def test_another_policy_is_loaded_while_the_executor_answers(node: PolicyNode) -> None:
    change = node.create_client(ChangeState, "policy/change_state")
    load = node.create_client(LoadPolicy, "policy/load")
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert call(change, request).success  # type: ignore[attr-defined]

    bad = call(load, LoadPolicy.Request(checkpoint="nowhere"))
    assert not bad.success  # type: ignore[attr-defined]
    assert "no checkpoint folder at nowhere" in bad.message  # type: ignore[attr-defined]
    assert bad.policy_id == "nano_pi0"  # type: ignore[attr-defined]

    assert load.wait_for_service(SOON)
    answer = load.call_async(LoadPolicy.Request(checkpoint="another"))
    second = call(load, LoadPolicy.Request(checkpoint="another"))
    # Other callbacks are served meanwhile, too: the client's answer is one.
    state = node.create_client(GetState, "policy/get_state")
    call(state, GetState.Request())
    assert not answer.done(), "the first is still being loaded"
    assert second.message == "another is being loaded"  # type: ignore[attr-defined]
    deadline = time.monotonic() + SOON
    while not answer.done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answer.result().success
    assert answer.result().policy_id == "another"


def _observation(now_ns: int) -> object:
    from vla_data import Observation

    return Observation(now_ns, {}, np.zeros(7), np.zeros(7), 0.04, "trace a circle", np.eye(4))
