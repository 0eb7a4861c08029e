"""What deployed clients, phones and text workers send each other by the hub, within one license and never beyond it."""

from typing import Any

import pytest

from tests.support.streams.hub_net import Net
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m

MINE, OTHER = "mine", "other"
URL = "https://video.test/v/1"


def said(**frame: Any) -> m.Message:
    return m.Unknown(type=frame["type"], frame=frame)


def frames(net: Net, fd: int, kind: str) -> list[dict[str, Any]]:
    """The frames of this type that went to a connection."""
    found = (message for message in net.sent.get(fd, ()) if isinstance(message, m.Unknown))
    return [dict(message.frame) for message in found if message.type == kind]


def text_worker(net: Net) -> int:
    """A worker connection that says nothing after `register`."""
    fd = net.join("worker", owner="texts")
    net.pass_time(2)
    return fd


def errors(net: Net, fd: int) -> list[str | None]:
    return [error.code for error in net.heard(fd, m.Error)]


def test_a_url_goes_to_a_text_worker_and_its_text_to_all_clients_of_that_license_alone(net: Net) -> None:
    worker, gpu = text_worker(net), net.worker()
    desktop, phone = net.join("client", owner=MINE), net.join("client", owner=MINE, device_type="mobile")
    stranger = net.join("client", owner=OTHER)
    net.say(phone, m.Url(url=URL))
    assert frames(net, phone, "ack") == [{"type": "ack", "msg": "the text worker has the request"}]
    assert frames(net, worker, "url") == [{"type": "url", "url": URL, "key": f"key-{MINE}"}]
    assert frames(net, gpu, "url") == []
    net.say(worker, said(type="result", key=f"key-{MINE}", license=MINE, content="words"))
    for fd in (desktop, phone):
        assert frames(net, fd, "result") == [{"type": "result", "content": "words"}]
    assert frames(net, stranger, "result") == []


def test_a_result_with_an_error_is_passed_on_as_it_is(net: Net) -> None:
    worker, client = text_worker(net), net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.say(worker, said(type="result", license=MINE, content="错误: no sound", error=True))
    assert frames(net, client, "result") == [{"type": "result", "content": "错误: no sound", "error": True}]


def test_a_result_for_an_unknown_key_is_dropped(net: Net) -> None:
    worker, client = text_worker(net), net.join("client", owner=MINE)
    net.say(worker, said(type="result", key="some key", content="words"))
    assert frames(net, client, "result") == []
    assert errors(net, worker) == []


def test_a_video_is_generated_by_the_text_worker_and_answered_under_the_request_that_it_omits(net: Net) -> None:
    worker, client = text_worker(net), net.join("client", owner=MINE)
    other = net.join("client", owner=MINE)
    net.say(client, said(type="chatglm_video", content="a sunset", request_id="v1"))
    given = {"type": "chatglm_video", "content": "a sunset", "key": f"key-{MINE}"}
    assert frames(net, worker, "chatglm_video") == [{**given, "request_id": "v1", "sender_fd": client}]
    assert net.heard(client, m.Ack)[0].request_id == "v1"
    answer = {"type": "chatglm_video_result", "video_url": "https://v.test/1.mp4", "cover_url": ""}
    net.say(worker, said(**answer, license=MINE))
    assert frames(net, client, "chatglm_video_result") == [{**answer, "request_id": "v1"}]
    assert frames(net, other, "chatglm_video_result") == []


def test_an_ambiguous_video_result_goes_to_all_of_the_license(net: Net) -> None:
    worker, client, other = text_worker(net), net.join("client", owner=MINE), net.join("client", owner=MINE)
    for id_ in ("v1", "v2"):
        net.say(client, said(type="chatglm_video", content=id_, request_id=id_))
    answer = {"type": "chatglm_video_result", "error": True, "error_msg": "no quota"}
    net.say(worker, said(**answer, license=MINE))
    for fd in (client, other):
        assert frames(net, fd, "chatglm_video_result") == [answer]


def test_without_a_text_worker_a_request_waits_wakes_the_machine_and_is_given_out_when_one_comes(net: Net) -> None:
    old, ours = net.join("monitor", owner="old"), net.monitor()
    client = net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    [offline] = net.heard(client, m.Offline)
    assert (offline.request_id or "").startswith("gpu_offline_")
    assert offline.task_type == "url"
    assert frames(net, old, "url") == [{"type": "url"}]
    assert len(net.heard(ours, m.Boot)) == 1
    worker = net.join("worker", owner="texts")
    assert frames(net, worker, "url") == []  # it may be a GPU's worker, which says so at once
    net.pass_time(2)
    assert frames(net, worker, "url") == [{"type": "url", "url": URL, "key": f"key-{MINE}"}]
    net.pass_time(2)
    assert len(frames(net, worker, "url")) == 1


def test_a_gpu_worker_is_given_no_texts(net: Net) -> None:
    client = net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    worker = net.join("worker", owner="gpus")
    net.say(worker, m.Online())
    net.pass_time(5)
    assert frames(net, worker, "url") == []


def test_while_texts_are_being_made_the_machine_is_in_use(net: Net) -> None:
    monitor, worker, client = net.monitor(), text_worker(net), net.join("client", owner=MINE)
    for content in ("words", None):
        net.say(client, m.Url(url=URL)) if content else net.say(worker, said(type="result", license=MINE, content="w"))
        assert net.use(monitor).active_count == (1 if content else 0)


def test_a_text_without_a_worker_is_refused_and_later_ones_start_no_machine(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.worker()
    net.pass_time(59)
    assert errors(net, client) == []
    net.pass_time(2)
    assert errors(net, client) == ["no_text_worker"]
    net.say(client, m.Url(url=URL))
    assert errors(net, client) == ["no_text_worker"] * 2
    assert len(net.heard(monitor, m.Boot)) == 1
    text_worker(net)
    net.say(client, m.Url(url=URL))
    assert errors(net, client) == ["no_text_worker"] * 2


def test_a_text_waits_ten_minutes_for_a_machine_that_does_not_come_on(net: Net) -> None:
    client = net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.pass_time(600)
    assert errors(net, client) == []
    net.pass_time(1)
    assert errors(net, client) == ["no_text_worker"]
    net.say(client, m.Url(url=URL))
    assert len(net.heard(client, m.Offline)) == 2


def test_tasks_of_a_lost_text_worker_do_not_keep_the_machine_on(net: Net) -> None:
    monitor, worker, client = net.monitor(), text_worker(net), net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.leave(worker)
    assert net.use(monitor).active_count == 0


def test_texts_go_to_the_text_worker_that_has_the_fewest(net: Net) -> None:
    one, two, client = text_worker(net), text_worker(net), net.join("client", owner=MINE)
    for _ in range(4):
        net.say(client, m.Url(url=URL))
    assert [len(frames(net, fd, "url")) for fd in (one, two)] == [2, 2]


def test_open_texts_are_limited_per_license() -> None:
    net = Net(texts_per_license=3)
    worker, client, other = text_worker(net), net.join("client", owner=MINE), net.join("client", owner=OTHER)
    for _ in range(5):
        net.say(client, m.Url(url=URL))
    net.say(other, m.Url(url=URL))
    assert errors(net, client) == ["queue_full"] * 2
    assert errors(net, other) == []
    assert len(frames(net, worker, "url")) == 4


def test_a_text_without_content_is_refused(net: Net) -> None:
    text_worker(net)
    client = net.join("client", owner=MINE)
    net.say(client, said(type="chatglm_video", content=7, request_id="v"))
    assert [(error.code, error.request_id) for error in net.heard(client, m.Error)] == [("bad_request", "v")]


def test_a_phones_task_goes_to_the_newest_pc_of_its_license_and_the_result_back(net: Net) -> None:
    first, pc, phone = (net.join("client", owner=MINE, device_type=kind) for kind in ("pc", "pc", "mobile"))
    ours = net.join("client", owner=MINE, features=("done",))
    stranger = net.join("client", owner=OTHER)
    task = {"type": "mobile_task", "task_type": "render", "request_id": "mt_1", "payload": {"a": [1]}}
    net.say(phone, said(**task))
    assert frames(net, pc, "mobile_task") == [{**task, "key": f"key-{MINE}", "sender_fd": phone}]
    assert [frames(net, fd, "mobile_task") for fd in (first, ours, stranger)] == [[], [], []]
    assert net.heard(phone, m.Ack)[0].request_id == "mt_1"
    net.say(pc, said(type="mobile_task_result", request_id="mt_1", sender_fd=phone, result={"ok": True}))
    [result] = frames(net, phone, "mobile_task_result")
    assert (result["request_id"], result["result"]) == ("mt_1", {"ok": True})


def test_a_task_result_is_for_its_own_license_whatever_number_it_names(net: Net) -> None:
    pc, phone = net.join("client", owner=MINE), net.join("client", owner=MINE, device_type="mobile")
    stranger = net.join("client", owner=OTHER, device_type="mobile")
    net.say(pc, said(type="mobile_task_result", request_id="mt_1", sender_fd=stranger))
    assert frames(net, stranger, "mobile_task_result") == []
    assert len(frames(net, phone, "mobile_task_result")) == 1


def test_a_phone_without_its_pc_gets_an_error(net: Net) -> None:
    net.join("client", owner=OTHER)
    phone = net.join("client", owner=MINE, device_type="mobile")
    net.say(phone, said(type="mobile_task", task_type="render", request_id="mt_1", payload={}))
    [error] = net.heard(phone, m.Error)
    assert (error.code, error.request_id, error.msg) == ("no_pc", "mt_1", error.message)


def test_sync_goes_to_the_newest_device_of_that_kind_as_it_is(net: Net) -> None:
    phone, pc = net.join("client", owner=MINE, device_type="mobile"), net.join("client", owner=MINE)
    frame = {"type": "sync", "target_device": "mobile", "what": [1, {"x": None}]}
    net.say(pc, said(**frame))
    assert frames(net, phone, "sync") == [frame]
    net.say(pc, said(type="sync", target_device="watch"))
    assert errors(net, pc) == ["no_device"]


PROGRESS = {
    "type": "gpu.task.progress", "task_id": "t", "status": "processing", "progress": 0, "message": "m",
    "total_frames": 0, "current_frame": 0, "ts": 5,
}  # fmt: skip


def test_progress_goes_to_the_connection_that_it_names_or_to_all_of_its_license(net: Net, worker: int) -> None:
    one, two = net.join("client", owner=MINE), net.join("client", owner=MINE, device_type="mobile")
    stranger = net.join("client", owner=OTHER)
    net.say(worker, said(**PROGRESS, key="secret", license=MINE, sender_fd=one))
    assert frames(net, one, "gpu.task.progress") == [PROGRESS]
    net.say(worker, said(**PROGRESS, key="secret", license=MINE, sender_fd=stranger))
    net.say(worker, said(**PROGRESS, key="secret", license=MINE, sender_fd=0))
    assert [len(frames(net, fd, "gpu.task.progress")) for fd in (one, two, stranger)] == [3, 2, 0]


@pytest.mark.parametrize("kind", ["result", "chatglm_video_result", "gpu.task.progress"])
def test_worker_messages_are_refused_from_clients(net: Net, kind: str) -> None:
    client, other = net.join("client", owner=MINE), net.join("client", owner=MINE)
    net.say(client, said(type=kind, license=MINE, content="words", sender_fd=other))
    assert errors(net, client) == ["unknown_type"]
    assert frames(net, other, kind) == []


def test_one_connection_can_relay_only_so_much_in_a_second() -> None:
    net = Net(passed_on=3)
    pc, phone = net.join("client", owner=MINE), net.join("client", owner=MINE, device_type="mobile")
    for _ in range(5):
        net.say(pc, said(type="sync", target_device="mobile"))
    assert len(frames(net, phone, "sync")) == 3
    assert errors(net, pc) == ["too_fast"] * 2


def test_a_frame_that_would_grow_too_large_for_its_receiver_is_refused(net: Net) -> None:
    phone = net.join("client", owner=MINE, device_type="mobile")
    net.join("client", owner=MINE)
    net.say(phone, said(type="mobile_task", request_id="mt", payload={"a": "x" * 60_000}))
    assert errors(net, phone) == ["too_large"]


def test_a_text_that_no_client_waits_for_is_dropped_and_does_not_count_as_use(net: Net) -> None:
    monitor, client = net.monitor(), net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.leave(client)
    worker = text_worker(net)
    assert frames(net, worker, "url") == []
    assert net.use(monitor).active_count == 0
    net.join("client", owner=MINE)
    net.pass_time(1)
    assert len(frames(net, worker, "url")) == 1


def test_a_revoked_license_leaves_no_texts_behind(net: Net) -> None:
    client = net.join("client", owner=MINE)
    net.say(client, m.Url(url=URL))
    net.happen(f.Revoked(MINE))
    assert not net.state.texts.open
