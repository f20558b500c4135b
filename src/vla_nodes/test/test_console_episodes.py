# SPDX-License-Identifier: Apache-2.0
"""What the console's page fetches: recorded episodes, and the pictures of a call for help."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from console_client import SOON, Console, hear, move_until_it_moves, sit, wait
from rclpy.context import Context
from sensor_msgs.msg import CompressedImage

from vla_data import EpisodeInfo, EpisodeOutcome, EpisodeWriter, images
from vla_msgs.msg import ControlOwner, FailureStatus, HelpRequest
from vla_nodes import convert
from vla_nodes.benches.load import wire
from vla_nodes.console.episodes import EpisodeError, Shelf
from vla_nodes.console.server import COOKIE, Address

FRAMES, PERIOD = 12, 100_000_000  # ns
LATE = 7_000_000  # ns from stamp to reception
ORDER = ["second", "damaged", "unreadable", "first"]
IMAGE = "sensor_msgs/msg/Image"


def grey(level: int) -> np.ndarray:
    return np.full((24, 32, 3), level, np.uint8)


def level(jpeg: bytes) -> int:
    """How bright a picture is; which tells the frames apart."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (24, 32, 3)
    return round(float(image.mean()))


def record(bag: Path, instruction: str, outcome: str, stored: str = "raw") -> Path:
    """An episode of two cameras that see it become brighter."""
    with EpisodeWriter(
        bag, EpisodeInfo(bag.name, instruction=instruction), images=stored
    ) as writer:
        for frame in range(FRAMES):
            stamp = 1_000_000_000 + frame * PERIOD
            message = convert.to_image(stamp, "scene", grey(20 * frame))
            writer.write("/cameras/scene/image_raw", IMAGE, wire(message), stamp + LATE)
            jpeg = CompressedImage(header=convert.header(stamp), format="jpeg")
            jpeg.data = images.encode_jpeg(grey(10 * frame))
            kind = "sensor_msgs/msg/CompressedImage"
            writer.write("/cameras/wrist/image_raw/compressed", kind, wire(jpeg), stamp + LATE)
        writer.close(EpisodeOutcome(outcome, "operator"))
    return bag


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    record(folder / "first", "push the cube", "failure")
    record(folder / "second", "pick up the cube", "success", "h264")
    for name in ("damaged", "unreadable"):
        shutil.copytree(folder / "first", folder / name)
    for file in (folder / "damaged").glob("*.mcap"):
        file.write_bytes(b"\x89MCAP0\r\n" + bytes(5000))
    (folder / "unreadable" / "metadata.yaml").write_text("]")
    (folder / "unfinished").mkdir()
    (folder / "note.txt").write_text("no bag")
    for age, name in enumerate(ORDER):
        os.utime(folder / name / "metadata.yaml", (1e9 - age, 1e9 - age))
    return folder


@pytest.fixture(scope="module")
def console(recordings: Path) -> Iterator[Console]:
    context = Context()
    rclpy.init(context=context)
    console = Console(context, Address("127.0.0.1", 0, ("127.0.0.1",)), recordings)
    yield console
    console.close()


def fetch(console: Console, cookie: str, path: str) -> bytes:
    answer = console.get(path, Cookie=cookie)
    body = answer.read()
    assert answer.status == 200, body
    return body


def episodes(console: Console, cookie: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(fetch(console, cookie, "/episodes"))}


def test_episodes_are_listed_the_newest_first(console: Console) -> None:
    listed = episodes(console, console.session())
    assert list(listed) == ORDER
    assert listed["second"]["instruction"] == "pick up the cube"
    assert listed["second"]["outcome"] == "success"
    assert listed["second"]["seconds"] == pytest.approx((FRAMES - 1) * PERIOD / 1e9, abs=0.06)
    assert listed["second"]["ended"] == pytest.approx(1e9)
    assert listed["damaged"]["outcome"] == "damaged"
    assert listed["unreadable"]["outcome"] == "unreadable"
    assert listed["first"]["outcome"] == "failure"


@pytest.mark.parametrize("name", ["first", "second"])
def test_pictures_are_those_of_their_times(console: Console, name: str) -> None:
    cookie = console.session()
    number = episodes(console, cookie)[name]["number"]
    told = json.loads(fetch(console, cookie, f"/episodes/{number}"))["cameras"]
    assert [one["name"] for one in told] == ["scene", "wrist"]
    for camera, step in ((0, 20), (1, 10)):
        assert told[camera]["times"] == pytest.approx(np.arange(FRAMES) * PERIOD / 1e9)
        for frame in (0, FRAMES - 1, 3):
            jpeg = fetch(console, cookie, f"/episodes/{number}/{camera}/{frame}")
            assert level(jpeg) == pytest.approx(step * frame, abs=3)


@pytest.mark.parametrize(
    "path", ["/episodes", "/episodes/1", "/episodes/1/0/0", "/help/0", "/invitation"]
)
def test_only_pages_with_a_session_are_told(console: Console, path: str) -> None:
    ask = console.post if path == "/invitation" else console.get
    assert ask(path).status == 401
    assert ask(path, Cookie=f"{COOKIE}=made-up").status == 401
    cookie = console.session()
    foreign = {"Cookie": cookie, "Origin": "http://www.w3.org"}
    assert ask(path, **foreign).status == 403
    if path != "/help/0":
        episodes(console, cookie)
        assert ask(path, Cookie=cookie).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/episodes/99",
        "/episodes/-1",
        "/episodes/1/7/0",
        "/episodes/1/0/99999999999999999999",
        "/episodes/first",
        "/episodes/../first/metadata.yaml",
        "/episodes/%2e%2e%2ffirst",
        "/episodes/1/0/0/../../../metadata.yaml",
        "/help/9",
    ],
)
def test_what_is_not_there_is_not_there(console: Console, path: str) -> None:
    cookie = console.session()
    episodes(console, cookie)
    assert console.get(path, Cookie=cookie).status == 404


def test_a_damaged_episode_keeps_no_other_from_being_seen(console: Console) -> None:
    cookie = console.session()
    listed = episodes(console, cookie)
    fetch(console, cookie, f"/episodes/{listed['damaged']['number']}")
    answer = console.get(f"/episodes/{listed['unreadable']['number']}", Cookie=cookie)
    assert answer.status == 404
    assert "cannot be read" in json.loads(answer.read())["error"]
    fetch(console, cookie, f"/episodes/{listed['first']['number']}/0/0")


def test_a_reader_that_dies_is_replaced(console: Console) -> None:
    cookie = console.session()
    first = episodes(console, cookie)["first"]
    library = console.server._library
    assert library._process is not None
    os.kill(library._process.pid, signal.SIGKILL)
    assert console.get("/episodes", Cookie=cookie).status in (404, 200)  # as it was noticed or not
    assert episodes(console, cookie)["first"] == first


def test_the_arm_does_not_wait_for_a_bag(console: Console) -> None:
    cookie = console.session()
    number = episodes(console, cookie)["first"]["number"]
    library = console.server._library
    assert library._process is not None
    reader = library._process.pid
    os.kill(reader, signal.SIGSTOP)
    seen: list[bytes] = []
    asking = threading.Thread(
        target=lambda: seen.append(fetch(console, cookie, f"/episodes/{number}/0/1"))
    )
    try:
        asking.start()
        with console.page() as page:
            sit(page)
            console.commands.clear()
            move_until_it_moves(console, page)
        assert not seen, "the positive control: the reader stands still"
    finally:
        os.kill(reader, signal.SIGCONT)
    asking.join(SOON)
    assert level(seen[0]) == pytest.approx(20, abs=3)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "none")
    assert shelf.list() == []
    with pytest.raises(EpisodeError, match="no episode 1"):
        shelf.open(1)


def test_numbers_stay_with_their_episodes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    record(tmp_path / "one", "go", "success")
    (one,) = shelf.list()
    record(tmp_path / "two", "go on", "failure")
    assert one in shelf.list()
    assert {told["name"]: told["number"] for told in shelf.list()} == {"one": 1, "two": 2}
    shutil.rmtree(tmp_path / "one")
    assert [told["number"] for told in shelf.list()] == [2]
    with pytest.raises(EpisodeError, match="episode 1 cannot be read"):
        shelf.open(1)


def test_a_call_for_help_is_shown_with_its_pictures(console: Console) -> None:
    cookie = console.session()
    asked = HelpRequest(boot_id=5, grant=7, reason="above the band", instruction="go")
    asked.cameras = ["scene", "wrist"]
    asked.pictures = [
        CompressedImage(format="jpeg", data=images.encode_jpeg(grey(shade))) for shade in (40, 90)
    ]
    owner = ControlOwner(state=ControlOwner.STATE_ASKING, boot_id=5, grant=7, reason="asks")
    with console.page(cookie) as page:
        console.helps.publish(asked)
        wait("pictures", lambda: len(console.link.help_pictures) == 2)
        shown = {"reason": "above the band", "instruction": "go", "cameras": ["scene", "wrist"]}
        told_by(console, page, owner, shown)
        assert level(fetch(console, cookie, "/help/1")) == pytest.approx(90, abs=3)
        # Of another question those pictures say nothing.
        other = ControlOwner(state=ControlOwner.STATE_ASKING, boot_id=5, grant=8, reason="silent")
        told_by(console, page, other, {"reason": "silent", "instruction": "", "cameras": []})
        told_by(
            console, page, ControlOwner(state=ControlOwner.STATE_IDLE, boot_id=5, grant=7), None
        )


def test_a_page_that_comes_late_sees_how_the_score_went(console: Console) -> None:
    course = [(step, 0.1 * step, 1.0) for step in range(1, 6)]
    said = [(9, 0.5, 1.0), *course, (5, 0.7, 1.0), (6, math.nan, 1.0)]
    for step, score, threshold in said:
        status = FailureStatus(step=step, score=score, threshold=threshold)
        console.failures.publish(status)
    wait("a course", lambda: len(console.link.course) == len(course))
    with console.page() as page:
        for told, known in zip(hear(page, "course"), course, strict=True):
            assert told == pytest.approx(known)


def told_by(console: Console, page: Any, owner: ControlOwner, shown: Any) -> None:
    """Waits until the page hears of a question, or of none, while the supervisor says this."""

    def told() -> bool:
        console.owners.publish(owner)
        robot = hear(page, "robot")
        state = robot.get("owner", {}).get("grant")
        return state == owner.grant and robot.get("help") == shown

    wait("what is asked", told)
