# SPDX-License-Identifier: Apache-2.0
"""recorder_node: one bag per episode with every topic of the graph, as it came over the wire."""

from __future__ import annotations

import hashlib
import importlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from vla_data.episode import EpisodeInfo, EpisodeOutcome
from vla_data.qos import QosProfile
from vla_msgs.msg import ActionChunk, EpisodeEvent, FailureStatus
from vla_nodes import convert
from vla_nodes.commands import figures
from vla_nodes.configs import RecorderConfig
from vla_nodes.node_tools import ERROR, OK, RELIABLE, STEADY, WARN, Diagnostics, RateMeter, run
from vla_nodes.parameters import declare
from vla_nodes.recording.episodes import Episodes, ReceptionTimes, RecordingConfig, SequenceWatch

# Messages that may wait to be taken: two seconds of a camera or a controller.
IMAGE_DEPTH, DEPTH = 60, 2000
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
BATCH = 500  # of a topic, at most, before the others have their turn
TAKE_PERIOD = 0.01  # s
DISK_PERIOD = 1.0  # s
TF_TYPE = "tf2_msgs/msg/TFMessage"
EVENTS_TYPE = "vla_msgs/msg/EpisodeEvent"
GATE_PERIOD = 0.05  # s


def message_class(type_name: str) -> Any:
    """The Python class of ``<package>/msg/<Name>``.

    Raises:
        ImportError: The package or the type is not there.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except AttributeError:
        raise ImportError(f"{package}.msg has no {name}") from None


def is_hidden(topic: str) -> bool:
    """Whether a token of the name begins with an underscore, as in an action's inner topics."""
    return any(token.startswith("_") for token in topic.split("/"))


def subjects(type_name: str, data: bytes) -> frozenset[str]:
    """What a latched message speaks of: the frames that it places, else nothing in particular.

    Several nodes publish on ``/tf_static``, each its own frames.
    """
    if type_name != TF_TYPE:
        return frozenset()
    return frozenset(one.child_frame_id for one in deserialize_message(data, TFMessage).transforms)


def file_ids(paths: tuple[str, ...]) -> dict[str, str]:
    """Name of each file to the SHA-256 of its content.

    Raises:
        OSError: A file cannot be read.
    """
    return {
        Path(path).name: f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
        for path in paths
    }


class Polled(CallbackGroup):
    """Nobody is woken for the messages of its subscriptions; the recorder takes them in batches.

    Waking the executor for each costs 68 % of a core where this takes 50 (`vla bench record`).
    """

    def can_execute(self, entity: object) -> bool:
        """False for a subscription: the executor does not wait for it."""
        return not isinstance(entity, Subscription)

    def beginning_execution(self, entity: object) -> bool:
        """Permits all else."""
        return True

    def ending_execution(self, entity: object) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Input:
    """A topic that is recorded.

    Attributes:
        latched: Its publishers keep the last message for those who come late.
    """

    topic: str
    type_name: str
    kind: Any
    subscription: Subscription
    latched: bool


class RecorderNode(LifecycleNode):
    """Subscribes to everything raw; the supervisor's events open and close the bags."""

    def __init__(self) -> None:
        """Declares parameters."""
        super().__init__("recorder")
        self.config = declare(self, RecorderConfig, "recorder_node")
        self._episodes: Episodes | None = None
        self._inputs: dict[str, Input] = {}
        self._polled = Polled()
        self._times = ReceptionTimes()
        self._unreadable: dict[str, str] = {}
        self._watch = SequenceWatch()
        self._messages = RateMeter()
        self._active = False
        self._opened_at = 0.0
        self._close_at: float | None = None
        self._outcome = EpisodeOutcome()
        self._told_missing = False
        self._last_bag = ""
        self._drops = 0
        self._events_topic = self.resolve_topic_name("episode/events")
        self._chunks_topic = self.resolve_topic_name("policy/action_chunk")
        self._failure_topic = self.resolve_topic_name("failure/status")
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)

    # --- life cycle -------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Makes the folder and the timers."""
        config = self.config
        try:
            self._episodes = Episodes(
                RecordingConfig(
                    directory=Path(config.directory),
                    required=tuple(self.resolve_topic_name(one) for one in config.required_topics),
                    queue_bytes=config.queue_bytes,
                    source=config.source,
                    name_pattern=config.name_pattern,
                    preroll=config.preroll,
                    preroll_bytes=config.preroll_bytes,
                    max_file_bytes=config.max_file_bytes,
                    max_file_duration=config.max_file_duration,
                    disk_warn_bytes=config.disk_warn_bytes,
                    disk_stop_bytes=config.disk_stop_bytes,
                    versions=figures.software(),
                    calibrations=file_ids(config.calibration_files),
                    images=config.images,
                )
            )
        except (OSError, ValueError) as error:
            self.get_logger().error(f"cannot record: {error}")
            return TransitionCallbackReturn.FAILURE
        self._event_pub = self.create_lifecycle_publisher(EpisodeEvent, "episode/events", RELIABLE)
        self._own_timers = [
            self.create_timer(config.scan_period, self._scan, clock=STEADY),
            self.create_timer(GATE_PERIOD, self._check_gate, clock=STEADY),
            self.create_timer(TAKE_PERIOD, self._take, clock=STEADY),
            self.create_timer(DISK_PERIOD, self._check_disk, clock=STEADY),
        ]
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to everything."""
        self._active = True
        self._subscribe(self._events_topic, EVENTS_TYPE, [])
        self._scan()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finishes the bag and lets go of the topics."""
        self._active = False
        if self._episodes is not None:
            self._episodes.close(EpisodeOutcome(), self._now_ns(), self._on_finished)
        for one in self._inputs.values():
            self.destroy_subscription(one.subscription)
        self._inputs.clear()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undoes the configuration."""
        for timer in self._own_timers:
            self.destroy_timer(timer)
        self.destroy_lifecycle_publisher(self._event_pub)
        self._episodes = None
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Finishes the bag that is open."""
        if self._episodes is not None:
            ended = self._close_at is not None
            self._episodes.close(self._outcome if ended else EpisodeOutcome(), self._now_ns())
            self._episodes.join(10.0)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # --- topics -----------------------------------------------------------------------------------

    def _scan(self) -> None:
        if not self._active:
            return
        for topic, types in self.get_topic_names_and_types():
            if topic in self._inputs or topic in self.config.ignored_topics:
                continue
            if is_hidden(topic) or topic in self._unreadable:
                continue
            offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
            if offered:
                self._subscribe(topic, types[0], offered)

    def _subscribe(self, topic: str, type_name: str, offered: list[QoSProfile]) -> None:
        reliable = all(one.reliability == QoSReliabilityPolicy.RELIABLE for one in offered)
        latched = bool(offered) and all(
            one.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for one in offered
        )
        depth = IMAGE_DEPTH if type_name in IMAGE_TYPES else DEPTH
        qos = QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=QoSReliabilityPolicy.RELIABLE
            if reliable
            else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
            if latched
            else QoSDurabilityPolicy.VOLATILE,
        )
        profile = QosProfile(
            depth=depth,
            reliability="reliable" if reliable else "best_effort",
            durability="transient_local" if latched else "volatile",
        )
        episodes = self._episodes
        if episodes is None:
            return
        try:
            kind = message_class(type_name)
            episodes.add_topic(topic, type_name, [profile])
        except (ImportError, ValueError) as error:
            self._unreadable[topic] = str(error)
            self.get_logger().error(f"{topic} is not recorded: {error}")
            return
        subscription = self.create_subscription(
            kind,
            topic,
            lambda data: None,
            qos,
            raw=True,
            callback_group=self._polled,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._inputs[topic] = Input(topic, type_name, kind, subscription, latched)

    def _take(self) -> None:
        """Takes what has arrived since the last time."""
        now_ns = self._now_ns()
        if not self._active or now_ns == 0:  # of simulated time: what has arrived waits for it
            return
        self._times.begin(time.time_ns(), now_ns)
        for one in list(self._inputs.values()):  # an event may add some
            handle = one.subscription.handle
            with handle:
                for _ in range(BATCH):
                    taken = handle.take_message(one.kind, True)
                    if taken is None:
                        break
                    self._on_message(one, *taken)

    def _on_message(self, one: Input, data: bytes, info: Mapping[str, int]) -> None:
        self._messages.tick()
        topic, episodes = one.topic, self._episodes
        number = info["publication_sequence_number"]
        lost = self._watch.lost(topic, number, partial(self.count_publishers, topic))
        if topic == self._events_topic:
            self._on_event(deserialize_message(data, EpisodeEvent))
        if episodes is None:
            return
        stamp = self._times.of(topic, info["received_timestamp"])
        self._drops += lost if episodes.writer is not None else 0
        latched = subjects(one.type_name, data) if one.latched else None
        episodes.take(topic, one.type_name, data, stamp, latched=latched, lost=lost)
        if topic == self._chunks_topic:
            episodes.identify(deserialize_message(data, ActionChunk).policy_id)
        elif topic == self._failure_topic:
            status = deserialize_message(data, FailureStatus)
            episodes.identify(
                failure_detector=status.detector_id, failure_calibration=status.calibration_id
            )
        elif topic == self._events_topic:
            self._check_gate()

    # --- episodes ---------------------------------------------------------------------------------

    def _on_event(self, event: EpisodeEvent) -> None:
        episodes = self._episodes
        if episodes is None or not self._active:
            return
        if event.event == EpisodeEvent.START and event.episode_id == episodes.episode_id:
            episodes.announce_again()  # the supervisor has missed the answer
        elif event.event == EpisodeEvent.START:
            info = EpisodeInfo(
                event.episode_id, task=event.task, seed=event.seed, instruction=event.instruction
            )
            self._scan()
            self._opened_at, self._close_at, self._told_missing = time.monotonic(), None, False
            try:
                episodes.open(info, self._now_ns())
            except (OSError, ValueError) as error:
                episodes.failure = str(error)
                self._tell(event.episode_id, EpisodeEvent.NOTE, f"cannot record: {error}")
        elif event.event == EpisodeEvent.END and event.episode_id == episodes.episode_id:
            self._outcome = EpisodeOutcome.from_numbers(
                event.outcome.outcome, event.outcome.outcome_source, event.outcome.message
            )
            self._close_at = time.monotonic() + self.config.tail
        elif event.event == EpisodeEvent.NOTE and event.episode_id in ("", episodes.episode_id):
            episodes.note(event.text)

    def _check_gate(self) -> None:
        episodes = self._episodes
        if episodes is None or episodes.writer is None:
            return
        if self._close_at is not None:
            if time.monotonic() >= self._close_at:
                self._close_at = None
                episodes.close(self._outcome, self._now_ns(), self._on_finished)
        elif episodes.ready_now():
            self._tell(episodes.episode_id, EpisodeEvent.RECORDING, str(episodes.writer.path))
        elif (
            episodes.waiting
            and not self._told_missing
            and time.monotonic() - self._opened_at > self.config.start_timeout
        ):
            self._told_missing = True
            text = f"no message on {', '.join(episodes.missing())}"
            self._tell(episodes.episode_id, EpisodeEvent.NOTE, text)

    def _check_disk(self) -> None:
        episodes = self._episodes
        if episodes is None or episodes.writer is None:
            return
        problem = episodes.disk.problem()
        if problem:
            text = f"the recording is ended: {problem}"
            self._tell(episodes.episode_id, EpisodeEvent.NOTE, text)
            outcome = self._outcome if self._close_at is not None else EpisodeOutcome(message=text)
            self._close_at = None
            episodes.note(text)
            episodes.close(outcome, self._now_ns(), self._on_finished)
            episodes.failure = text

    def _tell(self, episode_id: str, kind: int, text: str) -> None:
        event = EpisodeEvent(header=convert.header(self._now_ns()), event=kind, text=text)
        event.episode_id = episode_id
        self._event_pub.publish(event)
        self.get_logger().info(f"{episode_id}: {text}")

    def _on_finished(self, bag: Path, drops: Mapping[str, int], problem: str) -> None:
        self._last_bag = str(bag)
        lost = {topic: count for topic, count in drops.items() if count}
        if problem:
            self.get_logger().error(problem)
        elif lost:
            self.get_logger().warning(f"{bag}: messages lost: {lost}")
        else:
            self.get_logger().info(f"{bag}: complete, no drops")

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        episodes = self._episodes
        values: dict[str, Any] = {
            "topics": len(self._inputs),
            "message rate (Hz)": self._messages.rate(),
            "drops": self._drops,
        }
        for topic, why in self._unreadable.items():
            values[f"not recorded: {topic}"] = why
        if episodes is None or not self._active:
            return OK, "not active", values
        if self._now_ns() == 0:
            return WARN, "waits for /clock", values
        values["bags"] = episodes.finished
        values["last bag"] = self._last_bag
        values["disk free (GB)"] = episodes.disk.free_bytes() / 1e9
        problem = episodes.disk.problem()
        if problem:
            return ERROR, f"nothing can be recorded: {problem}", values
        if episodes.failure:
            return WARN, episodes.failure, values
        if episodes.waiting:
            return WARN, f"waits for {', '.join(episodes.missing())}", values
        if self._unreadable or self._drops:
            return WARN, "messages were lost or cannot be recorded", values
        warning = episodes.disk.warning()
        if warning:
            return WARN, warning, values
        return OK, f"records {episodes.episode_id}" if episodes.episode_id else "ready", values


def main() -> int:
    """Runs the node."""
    return run(RecorderNode)


if __name__ == "__main__":
    sys.exit(main())
