# SPDX-License-Identifier: Apache-2.0
"""What every node needs: diagnostics, rate meters, named QoS profiles and a main function."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time

from vla_nodes.parameters import ParameterError

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR

RELIABLE = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=100, reliability=QoSReliabilityPolicy.RELIABLE
)
# For whoever acts on what is so, and would rather miss a message than act on an old one.
NEWEST = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.RELIABLE
)
IMAGES = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=8, reliability=QoSReliabilityPolicy.RELIABLE
)
LATCHED = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
CLOCK = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT
)

SHUTDOWN_TIMEOUT = 5.0  # s for callbacks under way

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class EssentialThread(threading.Thread):
    """A thread without which its node is worth nothing: if it fails, the process ends."""

    failed = threading.Event()

    def run(self) -> None:
        """Runs the target."""
        try:
            super().run()
        except Exception:
            traceback.print_exc()
            self.failed.set()
            os.kill(os.getpid(), signal.SIGTERM)


def spin_aside(*nodes: Node) -> threading.Thread:
    """Spins nodes of one context in a thread of its own, until the context is shut down."""
    executor = SingleThreadedExecutor(context=nodes[0].context)
    for node in nodes:
        executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="spin", daemon=True)
    thread.start()
    return thread


def in_executor(node: Node, call: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Runs a call in the thread that spins a node, from another thread, and returns its result.

    An action client forgets a response that arrives before its request has been noted, so its
    requests must come from the thread that takes the responses.

    Raises:
        TimeoutError: The node is not spun.
    """
    done = threading.Event()
    task = node.executor.create_task(call)
    task.add_done_callback(lambda _: done.set())
    if not done.wait(timeout):
        raise TimeoutError(f"{node.get_name()} is not spun")
    return task.result()


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Lets a node answer that a transition is impossible in its present state.

    rclpy raises in the callback instead, which ends the node: anybody on the network could do that.
    """
    service = node._service_change_state
    change = service.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change(request, response)
        except rclpy_implementation.RCLError as error:
            node.get_logger().warning(f"transition {request.transition.id} is impossible: {error}")
            response.success = False
            return response

    service.callback = answer


class RateMeter:
    """Events per second of steady time over a sliding window. Thread-safe."""

    def __init__(self, window: float = 2.0) -> None:
        """Args: window: Length of the window, s."""
        self._window = window
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Counts one event."""
        now = time.monotonic()
        with self._lock:
            self._times.append(now)
            self._forget(now)

    def rate(self) -> float:
        """Events per second, Hz."""
        with self._lock:
            self._forget(time.monotonic())
            return len(self._times) / self._window

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - self._window:
            self._times.popleft()


class Diagnostics:
    """Publishes a node's health at a steady rate, also while ROS time stands still."""

    def __init__(
        self,
        node: Node,
        rate: float,
        check: Callable[[], tuple[bytes, str, Mapping[str, Any]]],
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        """Starts publishing.

        Args:
            node: The node.
            rate: Hz of steady time.
            check: Returns level, a message in one line, and values by name.
            now_ns: ROS time, ns; the node's own clock by default.
        """
        self._node = node
        self._check = check
        self._now_ns = now_ns
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        node.create_timer(1.0 / rate, self.publish, clock=STEADY)

    def publish(self) -> None:
        """Publishes the health now."""
        level, message, values = self._check()
        name = self._node.get_fully_qualified_name()
        status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="")
        status.values = [KeyValue(key=key, value=text(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        now = (
            self._node.get_clock().now()
            if self._now_ns is None
            else Time(nanoseconds=self._now_ns())
        )
        array.header.stamp = now.to_msg()
        self._publisher.publish(array)


def text(value: Any) -> str:
    """A value as diagnostics show it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def run(
    make: Callable[[], Node], make_executor: Callable[[], Executor] = SingleThreadedExecutor
) -> int:
    """Main function of a node: spins it until SIGINT or SIGTERM, then ends it in order.

    A node may have ``finish()``, called while it still spins, and ``close()``, called after that.

    Args:
        make: Builds the node; called after rclpy is initialised.
        make_executor: Builds its executor.

    Returns:
        Exit status: 0; 1 with one line on standard error when the node cannot be built, or with a
        traceback when a callback has failed.
    """
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    # rclpy's own handlers would shut the context down before the node can finish its work.
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
    except (ParameterError, ValueError, OSError) as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    if isinstance(node, LifecycleNode):
        refuse_impossible_transitions(node)
    executor = make_executor()
    executor.add_node(node)
    spinner = _Spinner(executor, asked)
    spinner.start()
    asked.wait()
    if spinner.failure is None:
        getattr(node, "finish", lambda: None)()
    rested = spinner.stop()
    getattr(node, "close", lambda: None)()
    rclpy.try_shutdown()
    # Ctrl-C in a terminal comes twice, from there and from launch: the second one must not kill
    # what is ending well. Python gives other handlers up when it ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if spinner.failure is not None:
        traceback.print_exception(spinner.failure)
    status = int(spinner.failure is not None or EssentialThread.failed.is_set())
    if not rested:
        # Python would wait for it, e.g. for a policy that is being loaded, until somebody kills.
        print(f"ends in the middle of a callback, after {SHUTDOWN_TIMEOUT:g} s", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


class _Spinner(threading.Thread):
    """Spins an executor until it is stopped or a callback fails."""

    def __init__(self, executor: Executor, on_failure: threading.Event) -> None:
        super().__init__(name="spin", daemon=True)
        self.failure: Exception | None = None
        self._executor = executor
        self._on_failure = on_failure
        self._stop_asked = threading.Event()

    def run(self) -> None:
        try:
            # Returns after each callback; the timer of the diagnostics alone sees to that.
            while not self._stop_asked.is_set():
                self._executor.spin_once()
        except Exception as error:
            self.failure = error
            self._on_failure.set()

    def stop(self) -> bool:
        """Lets callbacks under way finish, for a while. Returns whether they have."""
        self._stop_asked.set()
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        self.join(timeout=SHUTDOWN_TIMEOUT)
        # The executor's own shutdown would take its guard conditions from under callbacks that are
        # still under way in a pool of threads; it has no public way to wait for these.
        left = max(0.0, deadline - time.monotonic())
        return self._executor._work_tracker.wait(left) and not self.is_alive()
