# SPDX-License-Identifier: Apache-2.0
"""The figures of one episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vla_data.bag_info import bag_info
from vla_data.episode import EpisodeOutcome
from vla_data.episode_reader import EpisodeReader
from vla_data.report.history import FAULTS, PHASES, ControllerHistory, Floats
from vla_data.synchronisation import NS_PER_S, time_ns

ACTION_CHUNK = "vla_msgs/msg/ActionChunk"
POLICY_FEATURES = "vla_msgs/msg/PolicyFeatures"
EPISODE_EVENT = "vla_msgs/msg/EpisodeEvent"
TASK_STATUS = "vla_msgs/msg/TaskStatus"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
EVENT_END = 1


def measure_episode(reader: EpisodeReader, history: ControllerHistory | None) -> dict[str, Any]:
    """Measures an episode.

    Args:
        reader: The open bag.
        history: Its controller's states, if there are any.

    Returns:
        JSON-ready. Besides what `vla_data.bag_info.bag_info` gives: ``latencies`` (chunk age while
        tracking, observation to chunk, vision and language, action; each as statistics in ms, or
        None), ``tracking`` (reference against measured while the reference moves), ``torque``,
        ``phases_s``, ``faults``, ``chunks`` and ``real_time_factor``. What was not recorded is
        None.
    """
    info = bag_info(reader.path)
    outcome = final_outcome(reader)
    info.update(
        outcome=outcome.outcome,
        outcome_source=outcome.source,
        outcome_message=outcome.message,
    )
    info["latencies"] = _latencies(reader, history)
    info["tracking"] = None if history is None else _tracking(history)
    info["torque"] = None if history is None else _torque(history)
    info["phases_s"] = None if history is None else _phases(history)
    info["faults"] = (
        []
        if history is None
        else [FAULTS[number] for number in sorted(set(history.fault.tolist())) if number]
    )
    info["chunks"] = (
        None
        if history is None
        else {
            "accepted_count": history.chunks_accepted,
            "rejected_count": history.chunks_rejected,
        }
    )
    info["real_time_factor"] = _real_time_factor(reader)
    return info


def final_outcome(reader: EpisodeReader) -> EpisodeOutcome:
    """Finds how an episode ended: the bag's own word, else its events, else the task's judge."""
    if reader.outcome.outcome != "unknown":
        return reader.outcome
    found = reader.outcome
    for type_name in (TASK_STATUS, EPISODE_EVENT):
        topics = reader.topics_of_type(type_name)
        for each in reader.messages(topics) if topics else ():
            message = each.message
            ended = type_name == TASK_STATUS or message.event == EVENT_END
            if ended and message.outcome.outcome:
                found = EpisodeOutcome.from_numbers(
                    message.outcome.outcome,
                    message.outcome.outcome_source,
                    message.outcome.message,
                )
    return found


def statistics_ms(seconds: Iterable[float] | Floats) -> dict[str, float | int] | None:
    """Summarises times.

    Args:
        seconds: The times, s.

    Returns:
        Count, mean, median, 95th percentile and maximum in ms; None without any.
    """
    values = np.asarray(list(seconds), dtype=np.float64) * 1e3
    if not values.size:
        return None
    return {
        "count": int(values.size),
        "mean_ms": float(values.mean()),
        "median_ms": float(np.median(values)),
        "p95_ms": float(np.percentile(values, 95)),
        "max_ms": float(values.max()),
    }


def _latencies(
    reader: EpisodeReader, history: ControllerHistory | None
) -> dict[str, Mapping[str, float | int] | None]:
    chunks: list[float] = []
    topics = [name for name in reader.topics_of_type(ACTION_CHUNK) if "policy" in name]
    topics = topics or reader.topics_of_type(ACTION_CHUNK)
    for each in reader.messages(topics[:1]) if topics else ():
        chunks.append((each.log_ns - time_ns(each.message.header.stamp)) / NS_PER_S)
    encode: list[float] = []
    act: list[float] = []
    topics = reader.topics_of_type(POLICY_FEATURES)
    for each in reader.messages(topics) if topics else ():
        encode.append(each.message.encode_latency)
        act.append(each.message.act_latency)
    ages: Iterable[float] = ()
    if history is not None:
        tracking = history.phase == PHASES.index("tracking")
        ages = history.chunk_age[tracking & (history.chunk_age >= 0.0)]
    return {
        "chunk_age": statistics_ms(ages),
        "observation_to_chunk": statistics_ms(chunks),
        "encode": statistics_ms(encode),
        "act": statistics_ms(act),
    }


def _tracking(history: ControllerHistory) -> dict[str, float | int] | None:
    moving = history.moving & np.isfinite(history.orientation_error)
    if not moving.any():
        return None
    position = history.position_error[moving] * 1e3
    orientation = np.rad2deg(history.orientation_error[moving])
    return {
        "samples_count": int(moving.sum()),
        "position_rms_mm": float(np.sqrt(np.mean(position**2))),
        "position_max_mm": float(position.max()),
        "orientation_rms_deg": float(np.sqrt(np.mean(orientation**2))),
        "orientation_max_deg": float(orientation.max()),
    }


def _torque(history: ControllerHistory) -> dict[str, Any]:
    found: dict[str, Any] = {
        "saturated_count": int(history.torque_saturated.sum()),
        "rate_saturated_count": int(history.torque_rate_saturated.sum()),
        "wrench_saturated_count": int(history.wrench_saturated.sum()),
        "samples_count": len(history.time),
        "peak_ratio": None,
        "peak_joint": None,
    }
    ratio = torque_ratio(history)
    if np.isfinite(ratio).any():
        peaks = np.nanmax(np.where(np.isfinite(ratio), ratio, -1.0), axis=0)
        joint = int(np.argmax(peaks))
        found["peak_ratio"] = float(peaks[joint])
        found["peak_joint"] = history.joint_names[joint]
    return found


def torque_ratio(history: ControllerHistory) -> Floats:
    """Commanded torque over its limit, ``(samples, joints)``; NaN without a limit."""
    limits = np.where(history.tau_limit > 0.0, history.tau_limit, np.nan)
    ratio: Floats = np.abs(history.tau) / limits
    return ratio


def _phases(history: ControllerHistory) -> dict[str, float]:
    found = dict.fromkeys(PHASES, 0.0)
    for span in history.spans():
        found[span.phase] += span.end - span.start
    return found


def _real_time_factor(reader: EpisodeReader) -> dict[str, float] | None:
    topics = reader.topics_of_type(DIAGNOSTICS)
    values: list[float] = []
    for each in reader.messages(topics) if topics else ():
        for status in each.message.status:
            for pair in status.values:
                if pair.key.lower().replace("-", " ").replace("_", " ") == "real time factor":
                    values.append(float(pair.value))
    if not values:
        return None
    return {"mean": float(np.mean(values)), "min": float(np.min(values))}
