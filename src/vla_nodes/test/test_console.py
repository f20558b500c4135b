# SPDX-License-Identifier: Apache-2.0
"""The operator's page: who may speak to it, what it believes, and what becomes of it in ROS."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import math
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from console_client import SOON, Console, hear, move, move_until_it_moves, say, sit, wait
from rclpy.context import Context
from websockets.exceptions import ConnectionClosed

from vla_nodes.console import access, certificate, dialogue, server
from vla_nodes.console.access import TOKEN_LIFE, Access, Allowance, Punctuality
from vla_nodes.console.server import COOKIE, Address

SOURCES = Path(__file__).parent.parent / "console_page"


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    context = Context()
    rclpy.init(context=context)
    console = Console(context, Address("127.0.0.1", 0, ("127.0.0.1", "localhost")))
    yield console
    console.close()


def test_a_token_opens_one_session_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Access()
    token = known.invite()
    assert known.redeem("guessed") is None
    session = known.redeem(token)
    assert known.knows(session)
    assert known.redeem(token) is None
    late = known.invite()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + TOKEN_LIFE + 1.0)
    assert known.redeem(late) is None
    assert not known.knows(None)
    assert not known.knows("made up")


def test_one_seat() -> None:
    known = Access()
    assert known.sit_down("a", 1)
    assert known.sit_down("a", 1)
    assert not known.sit_down("b", 2)
    assert not known.sit_down("a", 3)  # another page of the same operator
    known.stand_up(2)
    assert known.seated(1)
    known.stand_up(1)
    assert known.sit_down("b", 2)


def test_an_allowance_fills_at_its_rate() -> None:
    allowance = Allowance(rate=10.0, burst=3.0)
    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(100.15) for _ in range(3)] == [True, False, False]


def test_clocks_may_drift_apart_and_what_is_late_is_still_late() -> None:
    for drift in (-2e-4, 2e-4):
        punctuality = Punctuality(0.15)
        for now in np.arange(0.0, 4 * 3600.0, 1.0):
            assert not punctuality.late(1e6 + now * (1.0 + drift), now)
        assert punctuality.late(1e6 + now * (1.0 + drift) - 0.2, now + 0.1)


def test_the_certificate_is_kept_as_long_as_it_serves(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made, key = certificate.ensure(folder, ["192.0.2.7", "robot.local"])
    assert key.stat().st_mode & 0o077 == 0
    first = certificate.fingerprint(made)
    assert certificate.fingerprint(certificate.ensure(folder, ["192.0.2.7"])[0]) == first
    assert certificate.fingerprint(certificate.ensure(folder, ["192.0.2.8"])[0]) != first
    made.write_text("spoilt")
    assert len(certificate.fingerprint(certificate.ensure(folder, ["192.0.2.8"])[0])) == 95


def test_on_the_network_it_speaks_tls_and_its_cookie_goes_nowhere_else(tmp_path: Path) -> None:
    paths = certificate.ensure(tmp_path, ["127.0.0.1", "localhost"])
    context = Context()
    rclpy.init(context=context)
    console = Console(context, Address("127.0.0.1", 0, ("localhost",), *paths))
    try:
        trusts = ssl.create_default_context(cafile=str(paths[0]))
        invitation = console.server.invitation()
        assert invitation.startswith(f"https://localhost:{console.server.port}/#")
        connection = http.client.HTTPSConnection("localhost", console.server.port, context=trusts)
        origin = {"Origin": f"https://localhost:{console.server.port}"}
        connection.request("POST", "/session", invitation.split("#")[1], origin)
        answer = connection.getresponse()
        assert answer.status == 200
        assert "Secure" in answer.headers["set-cookie"]
        with pytest.raises((http.client.HTTPException, OSError)):
            console.post("/session")
    finally:
        console.close()


def test_only_its_own_page_with_a_session_is_spoken_to(console: Console) -> None:
    token = console.server.invitation().split("#")[1]
    assert console.post("/session", token, Origin="http://www.w3.org").status == 403
    assert console.post("/session", token).status == 200
    assert console.post("/session", token).status == 401  # used
    assert console.post("/session", "x" * 100_000).status == 413
    assert console.post("/invitation").status == 401
    for cookie, origin, code in (
        (f"{COOKIE}=made-up", None, 403),
        (None, "http://www.w3.org", 403),
    ):
        with pytest.raises(Exception, match=str(code)):
            console.page(cookie, origin)
    cookie = console.session()
    invited = json.loads(console.post("/invitation", Cookie=cookie).read())["address"]
    assert console.post("/session", invited.split("#")[1]).status == 200


def test_a_token_that_waited_too_long_opens_nothing(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for life, status in ((-1.0, 401), (TOKEN_LIFE, 200)):
        monkeypatch.setattr(access, "TOKEN_LIFE", life)
        token = console.server.invitation().split("#")[1]
        assert console.post("/session", token).status == status


def test_the_page_is_there_and_nothing_may_embed_it(console: Console) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", console.server.port, timeout=SOON)
    for path in ("/", "/assets/console.js", "/assets/console.css"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.read()
    connection.request("GET", "/../server.py")
    assert connection.getresponse().status == 404


def test_one_operates_others_watch_and_may_stop(console: Console) -> None:
    with console.page() as first, console.page() as second:
        console.commands.clear()
        move(first)
        assert "seat" in hear(first, "error")
        sit(first)
        say(second, kind="sit")
        assert "somebody else" in hear(second, "error")
        move(second)
        assert "seat" in hear(second, "error")
        assert not any(command.enabled for command in console.commands)
        while hear(second, "seat") != "taken":
            pass
        say(second, kind="stop")
        assert "supervisor/stop is not there" in hear(second, "error")
        say(first, kind="stand")
        sit(second)
        move_until_it_moves(console, second)


def test_a_held_motion_becomes_a_command_and_a_lost_page_silence(console: Console) -> None:
    with console.page() as page:
        sit(page)
        console.commands.clear()
        move_until_it_moves(console, page, opening=0.5)
        command = next(one for one in console.commands if one.enabled)
        assert command.device == "console"
        assert command.twist.linear.z == pytest.approx(0.2)  # the bound is the full speed
        assert command.gripper_opening == pytest.approx(0.04)
    wait("silence", lambda: not console.commands[-1].enabled)
    assert not console.server.access.taken


def test_what_is_written_reaches_the_record(console: Console) -> None:
    with console.page() as page:
        sit(page)
        say(page, kind="note", text="  the cup is \n full ")
        wait("note", lambda: "operator: the cup is full" in console.notes)


def test_a_clock_that_is_wrong_moves_no_less_and_what_comes_late_nothing(console: Console) -> None:
    with console.page() as page:
        sit(page)
        console.commands.clear()
        move_until_it_moves(console, page, clock=-3600.0)
        wait("silence", lambda: not console.commands[-1].enabled)
        console.commands.clear()
        for _ in range(20):
            move(page, clock=-3600.0 - dialogue.LATE - 0.5)
            time.sleep(0.02)
        say(page, kind="note", text="after that")
        wait("note", lambda: "operator: after that" in console.notes)
        assert not any(command.enabled for command in console.commands)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no json", "JSON object"),
        ("[1, 2]", "JSON object"),
        ("[" * 4000, "JSON object"),
        (b"\x00\xff", "JSON object"),
        ('{"kind": "dance"}', "no command"),
        ('{"kind": {"kind": "hold"}}', "no command"),
        ('{"kind": "hold"}', "time"),
        ('{"kind": "hold", "time": 1, "twist": [1, 2]}', "six numbers"),
        ('{"kind": "hold", "time": 1, "twist": [0, 0, NaN, 0, 0, 0]}', "finite"),
        ('{"kind": "hold", "time": 1, "twist": [0, 0, 9, 0, 0, 0]}', "-1 to 1"),
        ('{"kind": "hold", "time": 1, "twist": [0, 0, 1e400, 0, 0, 0]}', "finite"),
        ('{"kind": "hold", "time": 1, "twist": [0, 0, true, 0, 0, 0]}', "finite"),
        ('{"kind": "hold", "time": Infinity, "twist": [0, 0, 0, 0, 0, 0]}', "finite"),
        ('{"kind": "hold", "time": 1, "twist": [0, 0, 0, 0, 0, 0], "opening": 7}', "0 to 1"),
        ('{"kind": "start", "instruction": " ", "time_limit": 9}', "empty"),
        ('{"kind": "start", "instruction": "go", "time_limit": -1}', "time limit"),
        ('{"kind": "start", "instruction": 7, "time_limit": 9}', "no text"),
        (json.dumps({"kind": "note", "text": "x" * 501}), "500"),
        ('{"kind": "correct", "text": "sing"}', "no correction"),
        ('{"kind": "correct", "text": "slower"}', "supervisor/set_speed is not there"),
        ('{"kind": "correct", "text": "stop!"}', "supervisor/stop is not there"),
        ('{"kind": "instruct", "instruction": " "}', "empty"),
        ('{"kind": "instruct", "instruction": "go"}', "supervisor/set_instruction is not there"),
        ('{"kind": "instead", "instruction": " "}', "empty"),
        ('{"kind": "instead", "instruction": "go"}', "supervisor/set_instruction is not there"),
        ('{"kind": "success"}', "no episode"),
        ('{"kind": "pause"}', "not there"),
    ],
)
def test_what_means_nothing_is_told_so_and_moves_nothing(
    console: Console, text: str | bytes, told: str
) -> None:
    with console.page() as page:
        sit(page)
        console.commands.clear()
        page.send(text)
        assert told in hear(page, "error")
        assert not any(command.enabled for command in console.commands)
        move_until_it_moves(console, page)  # what means something still does


def test_too_much_is_refused(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    with console.page() as page:
        page.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            hear(page, "pong")
    with caplog.at_level(logging.WARNING, "vla_console"), console.page() as page:
        for count in range(2000):
            say(page, kind="ping", time=count)
        heard = 0
        while True:
            told = json.loads(page.recv(timeout=SOON))
            heard += "pong" in told
            if told.get("pong", -1) >= 0 and heard >= 150:
                break
        assert hear(page, "seat") == "free"  # it still speaks
    assert sum("too much" in line.message for line in caplog.records) == 1


def test_a_flood_of_motions_moves_no_faster_and_a_stop_is_heard_through_it(
    console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vla_console"), console.page() as page:
        sit(page)
        console.commands.clear()
        for _ in range(2000):
            move(page, twist=[0, 0, 1, 0, 0, 0])
        say(page, kind="stop")
        assert "supervisor/stop is not there" in hear(page, "error")
        wait("motion", lambda: any(command.enabled for command in console.commands))
        fastest = max(command.twist.linear.z for command in console.commands)
        assert fastest == pytest.approx(0.2)  # the bound
        began = time.monotonic()
        console.commands.clear()
        wait("commands", lambda: len(console.commands) > 20 or time.monotonic() - began > 1.0)
        assert len(console.commands) <= (time.monotonic() - began) / 0.02 + 5  # at their own rate
        wait("silence", lambda: not console.commands[-1].enabled)
    assert sum("too much" in line.message for line in caplog.records) == 1


def test_garbage_is_logged_once(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vla_console"), console.page() as page:
        for count in range(20):
            page.send(f"garbage {count}")
        for _ in range(20):
            assert "JSON object" in hear(page, "error")
    assert sum("means nothing" in line.message for line in caplog.records) == 1


def test_the_page_that_is_shipped_is_the_one_that_is_written() -> None:
    shipped = (server.PAGE / "sources.sha256").read_text(encoding="utf-8").split()
    digest = hashlib.sha256()
    for path in sorted(p for p in SOURCES.rglob("*") if "node_modules" not in p.parts):
        if path.is_file():
            digest.update(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes())
    assert shipped == [digest.hexdigest()], "run `npm ci && npm run build` in console_page"


def test_numbers_that_json_does_not_know_are_none(console: Console) -> None:
    with console.page() as page:
        while "arm" not in (robot := hear(page, "robot")):
            pass
        assert robot["arm"]["chunk_age"] == 0.0
        assert robot["cameras"] == []
    assert math.isfinite(robot["arm"]["speed"])
