# SPDX-License-Identifier: Apache-2.0
"""The operator's page in a real browser: it takes the arm, moves it, and gives it back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from closed_loop import SOON, Watcher, assert_within_limits, position
from playwright.sync_api import Browser, Page, expect, sync_playwright
from std_srvs.srv import Trigger

from vla_msgs.msg import ControlOwner, Outcome

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian package chromium)"),
]
MS = 1e3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def loop(circle: Watcher) -> Iterator[Watcher]:
    """The running system at rest."""
    circle.begin_at_rest()
    yield circle
    if circle.owner.episode_id:  # begun by the page, which is gone
        circle.call(circle.stop, Trigger.Request())
        circle.wait("a stop", lambda: circle.owner.state == ControlOwner.STATE_FAULT)
        circle.call(circle.reset, Trigger.Request())
    circle.wait("idle", lambda: circle.owner.state == ControlOwner.STATE_IDLE)


@pytest.fixture
def address(loop: Watcher, domain: int) -> Iterator[str]:
    """Of a console beside the system."""
    command = [sys.executable, "-m", "vla_nodes.commands.cli", "console", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--recordings", str(loop.bags)],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield re.findall(r"http\S+", process.stdout.readline())[0]
    finally:
        process.terminate()
        assert process.wait(SOON) == 0


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, with the operator in the seat."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(SOON * MS)
    expect.set_options(timeout=SOON * MS)
    problems: list[str] = []
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.goto(address)
    expect(page.locator("#state")).to_have_text("IDLE")
    assert "#" not in page.url, "the token is not kept"
    page.click("#seat")
    expect(page.locator("#seat")).to_have_text("Leave the seat")
    yield page
    page.close()
    assert problems == []


def take_over(loop: Watcher, page: Page) -> None:
    """A task runs; the operator holds the arm and moves it up."""
    page.fill("#words", "trace a circle")
    page.click("#task button[type=submit]")
    loop.wait_until_moving()
    expect(page.locator("#state")).to_have_text("AUTONOMOUS")
    start = position(loop.state)[2]
    page.keyboard.down("Space")
    page.keyboard.down("KeyR")
    loop.wait("taken over", lambda: loop.owner.reason == "granted to console")
    expect(page.locator("#state")).to_have_text("TELEOP")
    loop.wait("up", lambda: position(loop.state)[2] > start + 0.02)


def rise(loop: Watcher, began: int) -> float:
    """How far the tool has gone up from the lowest place before, m; the policy goes down itself."""
    heights = np.array([position(state)[2] for state in loop.states[began:]])
    return float(np.max(heights - np.minimum.accumulate(heights), initial=0.0))


def wait_until_given_back(loop: Watcher, page: Page) -> None:
    """The policy goes on; where a busy machine kept the page silent, once the operator says so."""
    back = (ControlOwner.STATE_AUTONOMOUS, ControlOwner.STATE_PAUSED)
    loop.wait("given back", lambda: loop.owner.state in back)
    if loop.owner.state == ControlOwner.STATE_PAUSED:
        page.click("#task [data-command=resume]")
        loop.wait("autonomous", lambda: loop.owner.state == ControlOwner.STATE_AUTONOMOUS)


def watch_the_last_episode(page: Page) -> None:
    """It is listed once the recorder has finished it; played, and moved in."""
    last = page.locator("#episodes button").first
    expect(last).to_contain_text("trace a circle")
    expect(last).to_contain_text("success")
    last.click()
    scene = page.locator("#film figure").first
    expect(scene).to_have_attribute("data-frame", re.compile("[1-9]"))  # it plays
    assert scene.locator("img").evaluate("image => image.naturalWidth") == 96
    page.locator("#scrub").fill("0")
    expect(scene).to_have_attribute("data-frame", "0")
    expect(page.locator("#play")).to_have_text("Play")
    page.click("#shut")
    expect(page.locator("#player")).to_be_hidden()


def test_the_operator_takes_the_arm_moves_it_lets_go_and_judges(
    loop: Watcher, page: Page, tmp_path: Path
) -> None:
    take_over(loop, page)
    picture = page.locator("#cameras img").first
    expect(picture).to_be_visible()
    loop.wait("a picture", lambda: picture.evaluate("image => image.naturalWidth") > 0)
    page.keyboard.up("KeyR")
    page.keyboard.up("Space")
    wait_until_given_back(loop, page)
    loop.wait_until_moving()
    expect(page.locator("#state")).to_have_text("AUTONOMOUS")
    began = len(loop.states)
    page.fill("#correction", "3 cm up")
    page.click("#correct")
    # The whole of it where the machine keeps up; a correction is given up in time.
    loop.wait("corrected", lambda: rise(loop, began) > 0.01)
    expect(page.locator("#events")).to_contain_text("operator: correction: 3 cm up")
    wait_until_given_back(loop, page)
    page.fill("#note", "the cup was full")
    page.click("#write")
    expect(page.locator("#events")).to_contain_text("operator: the cup was full")
    page.screenshot(path=str(tmp_path / "console.png"))
    page.click("[data-command=success]")
    loop.wait("an end", lambda: not loop.owner.episode_id)
    expect(page.locator("#events")).to_contain_text("success so says the operator")
    watch_the_last_episode(page)
    assert_within_limits(loop.states)


def test_a_page_that_is_left_or_closed_leaves_a_hold(loop: Watcher, page: Page) -> None:
    take_over(loop, page)
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    loop.wait("a hold", lambda: loop.owner.state == ControlOwner.STATE_PAUSED)
    assert loop.owner.reason == "console is silent"
    loop.wait_until_holding()
    page.keyboard.up("KeyR")
    page.keyboard.up("Space")
    page.click("#task [data-command=resume]")
    loop.wait_until_moving()
    page.keyboard.down("Space")
    loop.wait("taken over", lambda: loop.owner.state == ControlOwner.STATE_TELEOP)
    page.context.close()
    loop.wait("a hold", lambda: loop.owner.state == ControlOwner.STATE_PAUSED)
    loop.wait_until_holding()
    assert_within_limits(loop.states)


def test_whoever_watches_may_stop(loop: Watcher, page: Page, browser: Browser) -> None:
    handle = loop.start_task()
    loop.wait_until_moving()
    page.once("dialog", lambda dialog: dialog.accept())
    with page.expect_response("**/invitation") as invited:
        page.click("#invite")
    watcher = browser.new_page()
    watcher.set_default_timeout(SOON * MS)
    watcher.goto(invited.value.json()["address"])
    expect(watcher.locator("#seat")).to_have_text("Somebody else operates")
    expect(watcher.locator("#task button").first).to_be_disabled()
    watcher.click("#stop")
    loop.wait("a stop", lambda: loop.owner.state == ControlOwner.STATE_FAULT)
    assert loop.result(handle).outcome.outcome == Outcome.ABORTED
    watcher.close()
    page.click("#task [data-command=reset]")
    loop.wait("idle", lambda: loop.owner.state == ControlOwner.STATE_IDLE)
