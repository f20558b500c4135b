# SPDX-License-Identifier: Apache-2.0
"""The cameras in a bag."""

from __future__ import annotations

from vla_data.episode_reader import EpisodeReader
from vla_data.image_compression import COMPRESSED_IMAGE, FORMATS, IMAGE


def camera_topics(reader: EpisodeReader) -> dict[str, str]:
    """Finds the cameras in a bag.

    Args:
        reader: The open bag.

    Returns:
        Camera name to topic, a camera called ``scene`` first. Where a camera has a raw and a
        compressed topic, the raw one.
    """
    found: dict[str, str] = {}
    for type_name in (IMAGE, COMPRESSED_IMAGE):
        for topic in reader.topics_of_type(type_name):
            parts = topic.strip("/").split("/")
            if parts[-1] in ("compressed", *FORMATS):
                parts.pop()
            name = parts[-2] if len(parts) > 1 else parts[-1]
            found.setdefault(name, topic)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "scene", item[0])))
