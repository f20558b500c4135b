# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import av
import numpy as np
import pytest
from made_episode import BRAKING, NS, TRACKING, controller_state, picture
from PIL import Image
from scipy.spatial.transform import Rotation

from vla_data import EpisodeInfo, EpisodeOutcome, EpisodeReader, EpisodeWriter, images
from vla_data.cameras import camera_topics
from vla_data.episode_reader import header_stamp_ns
from vla_data.report.history import FAULTS, PHASES, _angles, read_controller_history
from vla_data.report.measures import final_outcome, measure_episode, statistics_ms
from vla_data.report.summary import write_report
from vla_data.report.video import write_film
from vla_data.report.viewer import EVENTS
from vla_data.rows import SOURCES


@pytest.fixture(scope="module")
def report(tmp_path_factory, episode_bag):
    folder = tmp_path_factory.mktemp("report")
    broken = folder / "not_a_bag"
    broken.mkdir()
    seen = []
    out = folder / "out"
    written = write_report(
        [episode_bag, broken], out, progress=lambda index, total, name: seen.append((index, name))
    )
    assert seen == [(0, "episode_000"), (1, "not_a_bag")]
    return out, written


def test_figures_are_those_the_episode_was_made_with(report):
    episode = report[1]["episodes"][0]
    tracking = episode["tracking"]
    assert tracking["position_rms_mm"] == pytest.approx(3.0, abs=1e-6)
    assert tracking["orientation_rms_deg"] == pytest.approx(2.0, abs=1e-6)
    assert tracking["samples_count"] == 90
    assert episode["torque"]["saturated_count"] == 5
    assert episode["torque"]["rate_saturated_count"] == 0
    assert episode["torque"]["peak_ratio"] == pytest.approx(0.6, abs=0.002)
    assert episode["phases_s"]["holding"] == pytest.approx(0.2)
    assert episode["phases_s"]["tracking"] == pytest.approx(1.5)
    latencies = episode["latencies"]
    assert latencies["observation_to_chunk"]["mean_ms"] == pytest.approx(80.0)
    assert latencies["encode"]["max_ms"] == pytest.approx(20.0)
    assert latencies["act"]["median_ms"] == pytest.approx(30.0)
    assert 100.0 <= latencies["chunk_age"]["median_ms"] <= latencies["chunk_age"]["max_ms"] <= 260.0
    assert episode["real_time_factor"] == {"mean": 0.97, "min": 0.97}
    assert episode["faults"] == []
    assert (episode["outcome"], episode["outcome_source"]) == ("success", "simulator")
    assert episode["episode"]["seed"] == 2_000_007
    rates = {topic["name"]: topic["rate_hz"] for topic in episode["topics"]}
    assert rates["/controller/state"] == pytest.approx(50.0, rel=0.02)


def test_summary_over_episodes(report):
    figures = report[1]["figures"]
    assert figures["episodes_count"] == figures["success_count"] == 1
    assert figures["success_rate"] == 1.0
    assert figures["tracking_position_rms_mm"] == pytest.approx(3.0, abs=1e-6)
    assert figures["drops_count"] == 0
    assert [bag["reason"] for bag in report[1]["unreadable"]]
    assert "holds no MCAP file" in report[1]["unreadable"][0]["reason"]


def test_report_file_is_what_was_returned(report):
    out, written = report
    assert json.loads((out / "report.json").read_text()) == written


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.found += [value for name, value in attributes if name in ("href", "src", "poster")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_every_link_leads_somewhere(report):
    out, _ = report
    page = Links()
    text = (out / "index.html").read_text()
    page.feed(text)
    assert page.open == []
    files = [unquote(link) for link in page.found if not link.startswith("#")]
    assert {"report.json", "episode_000.mp4", "episode_000_tracking.png"} <= set(files)
    assert all((out / file).is_file() for file in files)
    anchors = [link[1:] for link in page.found if link.startswith("#")]
    assert anchors
    assert all(f'id="{anchor}"' in text for anchor in anchors)
    assert "<script" not in text


@pytest.mark.parametrize("plot", ["tracking", "torques"])
def test_plots_are_pictures_with_content(report, plot):
    with Image.open(report[0] / f"episode_000_{plot}.png") as image:
        assert image.width > 1000
        assert image.height > 700
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0x1B, 0x5F, 0xA7), (0xDD, 0xEE, 0xE2), (0xFD, 0xEB, 0xC8)):
        assert (abs(pixels.astype(int) - colour).max(axis=2) < 6).sum() > 100, colour


def frames(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode()
        ]


def test_film_shows_both_cameras_at_their_true_rate(report):
    out, written = report
    film = written["episodes"][0]["film"]
    assert film["cameras"] == ["scene", "wrist"]
    shown = frames(out / "episode_000.mp4")
    assert len(shown) == film["frames_count"] == 30
    assert film["rate_hz"] == pytest.approx(15.0)
    assert np.allclose(np.diff([time for time, _ in shown]), 1 / 15, atol=1e-4)
    pixels = shown[len(shown) // 2][1]
    left, right = pixels[:392, :396], pixels[:392, 396:]
    for side in (left, right):
        blue = (side[..., 2] > 150) & (side[..., 0] < 90)
        assert blue.sum() > 1000
    caption = pixels[400:]
    assert (caption.min(axis=2) > 180).sum() > 300


def test_irregular_frames_keep_their_own_times(tmp_path, messages):
    times = [0.0, 0.1, 0.15, 0.6, 0.62, 1.4]
    bag = tmp_path / "irregular"
    with EpisodeWriter(bag, EpisodeInfo("e"), definitions=messages.definitions) as writer:
        for time in times:
            stamp = NS + round(time * NS)
            message = messages.image(stamp, picture("scene", time, 48))
            late = stamp + 30_000_000
            writer.write("/cam/image_raw", message.__msgtype__, messages.cdr(message), late)
    with EpisodeReader(bag) as reader:
        film = write_film(reader, tmp_path / "film.mp4", "a caption that is long " * 9)
        assert [header_stamp_ns(raw) for raw in reader.raw_messages()] == [
            NS + round(time * NS) for time in times
        ]
    assert film.frame_count == 6
    assert film.rate_hz == pytest.approx(5 / 1.4)
    assert [time for time, _ in frames(film.path)] == pytest.approx(times, abs=1e-4)


def test_compressed_cameras_and_their_names(tmp_path, messages):
    bag = tmp_path / "compressed"
    with EpisodeWriter(bag, EpisodeInfo("e"), definitions=messages.definitions) as writer:
        for index in range(3):
            stamp = NS * (1 + index)
            data = np.frombuffer(images.encode_jpeg(picture("scene", 0.0)), np.uint8)
            message = messages.make(
                "sensor_msgs/msg/CompressedImage",
                header=messages.header(stamp),
                format="jpeg",
                data=data,
            )
            for topic in (
                "/cameras/wrist/image_raw/compressed",
                "/cameras/scene/image_raw/compressed",
            ):
                writer.write(topic, message.__msgtype__, messages.cdr(message), stamp)
            raw = messages.image(stamp, picture("wrist", 0.0))
            writer.write("/cameras/wrist/image_raw", raw.__msgtype__, messages.cdr(raw), stamp)
    with EpisodeReader(bag) as reader:
        topics = camera_topics(reader)
        assert list(topics.items()) == [
            ("scene", "/cameras/scene/image_raw/compressed"),
            ("wrist", "/cameras/wrist/image_raw"),
        ]
        assert write_film(reader, tmp_path / "film.mp4", "").frame_count == 3


def test_an_episode_without_controller_and_cameras_still_has_a_page(tmp_path, messages):
    bag = tmp_path / "bare <b>"
    info = EpisodeInfo("e", instruction="pick <script>alert(1)</script> & 'place'")
    with EpisodeWriter(bag, info, definitions=messages.definitions) as writer:
        message = messages.make("std_msgs/msg/String", data="x")
        writer.write("/chatter", "std_msgs/msg/String", messages.cdr(message), 5)
    written = write_report([bag], tmp_path / "out")
    episode = written["episodes"][0]
    assert episode["tracking"] is None
    assert episode["film"] is None
    assert episode["latencies"]["chunk_age"] is None
    assert written["figures"]["success_rate"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_unfinished_bag_is_reported_with_its_problem(tmp_path, episode_bag):
    copy = tmp_path / "cut"
    shutil.copytree(episode_bag, copy)
    (copy / "metadata.yaml").unlink()
    file = next(copy.glob("*.mcap"))
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 10)
    written = write_report([copy], tmp_path / "out")
    assert written["episodes"][0]["finished"] is False
    assert "cut off" in (tmp_path / "out" / "index.html").read_text()


def test_bags_of_the_same_name_do_not_overwrite_each_other(tmp_path, messages):
    bags = []
    for place in ("a", "b"):
        bag = tmp_path / place / "episode"
        with EpisodeWriter(bag, EpisodeInfo(place), definitions=messages.definitions) as writer:
            state = controller_state(messages, NS, 0.0, TRACKING)
            writer.write("/controller/state", state.__msgtype__, messages.cdr(state), NS)
            state = controller_state(messages, 2 * NS, 1.0, BRAKING)
            writer.write("/controller/state", state.__msgtype__, messages.cdr(state), 2 * NS)
        bags.append(bag)
    written = write_report(bags, tmp_path / "out")
    files = [episode["files"]["tracking"] for episode in written["episodes"]]
    assert len(set(files)) == 2


def test_outcome_falls_back_to_the_judge_then_to_the_events(tmp_path, messages):
    bag = tmp_path / "e"
    verdict = messages.make("vla_msgs/msg/Outcome", outcome=2, outcome_source=4, message="60 s")
    status = messages.make("vla_msgs/msg/TaskStatus", outcome=verdict)
    with EpisodeWriter(bag, EpisodeInfo("e"), definitions=messages.definitions) as writer:
        writer.write("/task/status", status.__msgtype__, messages.cdr(status), 1)
    with EpisodeReader(bag) as reader:
        assert final_outcome(reader) == EpisodeOutcome("failure", "timeout", "60 s")
        assert measure_episode(reader, None)["outcome"] == "failure"


def test_orientation_error_agrees_with_scipy_near_zero_and_near_pi():
    random = np.random.default_rng(0)
    first = Rotation.random(200, rng=random)
    turns = np.concatenate([10.0 ** random.uniform(-9, 0, 100), random.uniform(3.0, np.pi, 100)])
    axes = random.normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    second = first * Rotation.from_rotvec(axes * turns[:, None])
    signs = random.choice([-1.0, 1.0], (200, 1))
    angles = _angles(first.as_quat(), signs * second.as_quat())
    assert np.allclose(angles, turns, rtol=1e-5, atol=1e-12)
    assert np.isnan(_angles(np.zeros((1, 4)), np.ones((1, 4)) / 2))[0]


def test_statistics_of_nothing_are_nothing():
    assert statistics_ms([]) is None
    assert statistics_ms([0.001, 0.003])["mean_ms"] == pytest.approx(2.0)


def test_history_orders_states_by_stamp_and_skips_empty_torques(tmp_path, messages):
    bag = tmp_path / "e"
    with EpisodeWriter(bag, EpisodeInfo("e"), definitions=messages.definitions) as writer:
        for log, stamp in ((1, 3), (2, 2), (3, 4)):
            state = controller_state(messages, stamp * NS, 0.0, TRACKING)
            if stamp == 2:
                state.tau_command = np.zeros(0)
            writer.write("/controller/state", state.__msgtype__, messages.cdr(state), log * NS)
    with EpisodeReader(bag) as reader:
        history = read_controller_history(reader)
    assert history.time.tolist() == [1.0, 2.0, 3.0]
    assert np.isnan(history.tau[0]).all()
    assert np.isfinite(history.tau[1:]).all()
    assert [span.phase for span in history.spans()] == ["tracking"]
    assert re.fullmatch(r"panda_\w+", history.tool_frame)


def test_pictures_of_the_same_instant_are_shown_together(tmp_path, messages):
    bag = tmp_path / "pairs"
    with EpisodeWriter(bag, EpisodeInfo("e"), definitions=messages.definitions) as writer:
        for index in range(6):
            stamp = NS + index * 100_000_000
            for delay, camera in ((1_000_000, "scene"), (20_000_000, "wrist")):
                shade = np.full((32, 32, 3), 20 + 40 * index, np.uint8)
                message = messages.image(stamp, shade)
                writer.write(
                    f"/{camera}/image_raw",
                    message.__msgtype__,
                    messages.cdr(message),
                    stamp + delay,
                )
    with EpisodeReader(bag) as reader:
        film = write_film(reader, tmp_path / "film.mp4", "")
    assert film.frame_count == 6
    for index, (_, pixels) in enumerate(frames(film.path)):
        left, right = pixels[200, 100], pixels[200, 500]
        assert abs(left.astype(int) - right).max() <= 3
        assert abs(left.astype(int) - (20 + 40 * index)).max() <= 6


@pytest.mark.parametrize(
    ("message", "prefix", "names"),
    [
        ("ControllerState", "FAULT_", FAULTS),
        ("ControllerState", "PHASE_", PHASES),
        ("ControlOwner", "OWNER_", SOURCES),
        ("EpisodeEvent", "", EVENTS),
    ],
)
def test_numbers_have_the_names_of_the_message(definitions, message, prefix, names):
    text = definitions.text(f"vla_msgs/msg/{message}")
    found = re.findall(rf"^uint8 {prefix}(\w+) = (\d+)", text, re.M)
    stated = {int(number): name.lower().replace("_", " ") for name, number in found}
    assert dict(enumerate(names)) == stated
