# SPDX-License-Identifier: Apache-2.0
"""failure_node: judges every inference of the policy. See `judging` for the rules. No torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image

from vla_data import images
from vla_failure.decision import Decision
from vla_failure.loading import load_monitor
from vla_failure.monitor import Monitor, MonitorConfig
from vla_msgs.msg import ControlOwner, EpisodeEvent, FailureStatus, HelpRequest, PolicyFeatures
from vla_nodes import convert
from vla_nodes.configs import FailureConfig
from vla_nodes.convert.failure import from_control_owner, from_policy_features, to_failure_status
from vla_nodes.judging import Judging
from vla_nodes.node_tools import (
    ERROR,
    IMAGES,
    LATCHED,
    OK,
    RELIABLE,
    STEADY,
    WARN,
    Diagnostics,
    run,
)
from vla_nodes.parameters import declare
from vla_nodes.supervision.types import EventKind

JPEG_QUALITY = 90


class FailureNode(LifecycleNode):
    """Listens to the policy and to the supervisor, and says how it stands."""

    def __init__(self, **options: Any) -> None:
        """Declares parameters; ``options`` are those of a node."""
        super().__init__("failure", **options)
        self.config = declare(self, FailureConfig, "failure_node")
        self._judging: Judging | None = None
        self._monitor: Monitor | None = None
        self._failure = ""
        self._asked: HelpRequest | None = None
        self._pictures: dict[str, Any] = {}  # subscriptions to the cameras of a request
        self._seen: list[Any] = []  # of these, what has served its purpose
        self._diagnostics = Diagnostics(self, self.config.diagnostics_rate, self._health)

    # --- life cycle -------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads detector and calibration and connects."""
        try:
            self._monitor = load(self.config)
        except (ValueError, OSError) as error:
            self._failure = f"no detector: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        config = self.config
        self._judging = Judging(self._monitor, config.feature_timeout, config.latency_tolerance)
        self._status_pub = self.create_lifecycle_publisher(
            FailureStatus, "failure/status", RELIABLE
        )
        self._help_pub = self.create_lifecycle_publisher(HelpRequest, "failure/help", LATCHED)
        self._inputs = [
            self.create_subscription(kind, topic, callback, RELIABLE)
            for kind, topic, callback in (
                (ControlOwner, "control_owner", self._on_owner),
                (PolicyFeatures, "policy/features", self._on_features),
                (EpisodeEvent, "episode/events", self._on_event),
            )
        ]
        self._timer = self.create_timer(1.0 / config.status_rate, self._tick, clock=STEADY)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of the detector and of all connections."""
        self.destroy_timer(self._timer)
        for one in self._inputs:
            self.destroy_subscription(one)
        self._drop_pictures()
        self.destroy_lifecycle_publisher(self._status_pub)
        self.destroy_lifecycle_publisher(self._help_pub)
        self._judging, self._monitor = None, None
        return TransitionCallbackReturn.SUCCESS

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # --- inputs -----------------------------------------------------------------------------------

    def _on_owner(self, message: ControlOwner) -> None:
        judging = self._judging
        if judging is None:
            return
        before = judging.turn
        judging.on_turn(from_control_owner(message), self._now_ns())
        if before is None or judging.turn is None or before.grant != judging.turn.grant:
            self._tell()
            self._ask(message)

    def _on_features(self, message: PolicyFeatures) -> None:
        if self._judging is None:
            return
        try:
            seen = from_policy_features(message)
        except ValueError as error:
            self._judging.on_unreadable(str(error))
        else:
            self._judging.on_inference(seen, self._now_ns())
        self._tell()

    def _on_event(self, message: EpisodeEvent) -> None:
        if self._judging is not None and message.event == EventKind.RESET:
            self._judging.on_reset()
            self._tell()

    def _tick(self) -> None:
        if self._judging is not None:
            self._judging.tick(self._now_ns())
            self._tell()

    def _tell(self) -> None:
        if self._judging is not None and self._monitor is not None:
            self._status_pub.publish(to_failure_status(self._judging, self._monitor.detector_id))

    # --- a request for help -----------------------------------------------------------------------

    def _ask(self, owner: ControlOwner) -> None:
        """Tells the operator why the arm holds, at once and again with each picture that comes."""
        self._drop_pictures()
        self._asked = None
        if owner.state != ControlOwner.STATE_ASKING:
            return
        self._asked = HelpRequest(
            header=owner.header,
            boot_id=owner.boot_id,
            grant=owner.grant,
            episode_id=owner.episode_id,
            instruction=owner.instruction,
            reason=owner.reason,
        )
        self._help_pub.publish(self._asked)
        for camera in self.config.cameras:
            self._pictures[camera] = self.create_subscription(
                Image, f"cameras/{camera}/image_raw", partial(self._on_picture, camera), IMAGES
            )

    def _on_picture(self, camera: str, message: Image) -> None:
        subscription = self._pictures.pop(camera, None)
        if subscription is None or self._asked is None:
            return
        self._seen.append(subscription)
        try:
            rgb = images.to_rgb(images.decode_message(message))
        except ValueError as error:
            self.get_logger().warning(f"no picture of {camera}: {error}")
            return
        self._asked.cameras = [*self._asked.cameras, camera]
        self._asked.pictures = [
            *self._asked.pictures,
            convert.to_compressed_image(
                convert.from_time(message.header.stamp),
                message.header.frame_id,
                rgb,
                JPEG_QUALITY,
            ),
        ]
        self._help_pub.publish(self._asked)

    def _drop_pictures(self) -> None:
        for one in (*self._pictures.values(), *self._seen):
            self.destroy_subscription(one)
        self._pictures.clear()
        self._seen.clear()

    # --- health -----------------------------------------------------------------------------------

    def _health(self) -> tuple[bytes, str, Mapping[str, Any]]:
        judging, monitor = self._judging, self._monitor
        if judging is None or monitor is None:
            return (ERROR, self._failure, {}) if self._failure else (OK, "not configured", {})
        status = judging.status
        values = {
            "verdict": status.decision.name,
            "step": status.step,
            "score": status.score,
            "threshold": status.threshold,
            "drift p": status.drift_p,
            "latency (ms)": 1e3 * status.latency,
            "calibration": status.calibration_id or "none",
            "detector": monitor.detector_id,
        }
        text = f"{status.decision.name}: {status.reason}" if status.reason else status.decision.name
        if monitor.calibration is None:
            return WARN, f"UNCALIBRATED, nothing can alarm; {text}", values
        return (OK if status.decision is Decision.OK else WARN), text, values


def load(config: FailureConfig) -> Monitor:
    """The monitor that the parameters name; what runs is known with the first inference.

    Raises:
        ValueError or OSError: Naming what is missing or not valid.
    """
    folder = Path(config.detector)
    if not config.detector or not folder.is_dir():
        raise ValueError(f"no folder of a detector at {config.detector!r}")
    monitor = load_monitor(
        folder,
        None,
        MonitorConfig(
            reaction=Decision[config.reaction],
            retries=config.retries,
            persistence=config.persistence,
            warning=config.warning,
            drift_level=config.drift_level,
            max_age=config.max_age,
            allow_uncalibrated=config.allow_uncalibrated,
        ),
    )
    if monitor.calibration is None and not config.allow_uncalibrated:
        raise ValueError(
            f"{folder} holds no calibration: `vla failure calibrate` makes one; "
            "allow_uncalibrated runs without, and then nothing can alarm"
        )
    return monitor


def main() -> int:
    """Runs the node."""
    return run(FailureNode)


if __name__ == "__main__":
    sys.exit(main())
