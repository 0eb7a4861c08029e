"""What a person sees of a job: on a terminal, in a pipe, and what a program reads with --json."""

import re
import sys

import pytest

from tests.support.field.house import field, go_online
from tests.support.programs.client_scene import QUICK, User
from tests.support.programs.terminal_scene import plain, terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals are made differently there")

SUBMIT = ("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", *QUICK)


async def test_on_a_terminal_the_stages_are_ticked_off_in_one_line(user: User) -> None:
    async with field(user, online=False) as (hub, worker), terminal(user, *SUBMIT) as shown:
        await shown.shows("▸ wake")
        await go_online(hub, worker)
        last = plain(await shown.ended()).splitlines()
        assert shown.process.returncode == 0
    assert any("done: out.mp4 (8.5 kB)" in line for line in last)
    without_times = [re.sub(r" \d+(\.\d)? s\b", "", line).strip() for line in last]
    assert "✓ submit  ✓ wake  ✓ check  ✓ upload  ✓ render  ✓ download" in without_times
    assert all(len(line) <= 80 for line in last)
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") > 0  # the cursor is given back


async def test_without_colours_and_without_utf_8_it_still_can_be_read(user: User) -> None:
    async with field(user), terminal(user, *SUBMIT, NO_COLOR="1", PYTHONIOENCODING="ascii") as shown:
        assert "done: out.mp4" in plain(await shown.ended())
    assert "+ submit" in plain(shown.text)
    assert "?" not in plain(shown.text).replace("[?25", "")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.text)


async def test_a_terminal_that_cannot_draw_gets_plain_lines(user: User) -> None:
    async with field(user), terminal(user, *SUBMIT, TERM="dumb") as shown:
        assert "done: out.mp4" in await shown.ended()
    assert "\x1b" not in shown.text
    assert " s  worker ready at " in shown.text


async def test_log_lines_stand_above_the_display_and_the_cursor_comes_back_after_ctrl_c(user: User) -> None:
    async with field(user, online=False) as (hub, _), terminal(user, *SUBMIT) as shown:
        await shown.shows("▸ wake")
        await hub.tell({"type": "error", "message": "maintenance at noon"})
        await shown.shows("the hub says: maintenance at noon")
        shown.process.send_signal(2)
        said = plain(await shown.ended())
        assert shown.process.returncode == 130
    assert "cancelled by the user" in said
    assert "✗ wake" in said
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") > 0


async def test_in_a_pipe_there_are_plain_lines_with_times_and_no_flood(user: User) -> None:
    async with field(user):
        ran = await user.run("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--poll-every", "0.05")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert all(re.match(r" *\d+\.\d s  \S", line) for line in lines)
    assert lines[-1].endswith("done: out.mp4 (8.5 kB)")
    assert len([line for line in lines if "downloading" in line]) == 1
    assert "\x1b" not in ran.out + ran.err


async def test_json_lines_all_parse_and_the_last_is_the_outcome(user: User) -> None:
    async with field(user):
        ran = await user.submit("--job-id", "job-1")
    assert {event["job"] for event in ran.events} == {"job-1"}
    assert [event["t"] for event in ran.events] == sorted(event["t"] for event in ran.events)
    kinds = list(dict.fromkeys(event["event"] for event in ran.events))
    assert kinds == [
        "waking", "granted", "online", "fingerprinted", "checked", "uploading", "uploaded", "submitted", "running",
        "rendered", "downloading", "done",
    ]  # fmt: skip
    assert ran.last == {**ran.last, "path": "out.mp4", "size": 8533}
