"""Frames to messages and back: exactly the deployed format, and an error message for any other."""

import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.wire import Malformed, decode, encode, encode_old, from_frame, to_frame

# ---------------------------------------------------------------- messages made up by hypothesis

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=m.MAX_ID)
INTS = st.integers(-(2**63), 2**64 - 1)
LEAVES = st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        metas = [meta for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta)]
        return bounded(metas[0], args[0]) if metas else values_of(args[0])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return instances(hint)
    if origin in (types.UnionType, typing.Union):
        return st.none() | values_of(next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return st.lists(values_of(args[0]), max_size=3).map(tuple) if ... in args else st.tuples(*map(values_of, args))
    if origin is not None and issubclass(origin, Mapping):
        return OBJECTS if args[1] is not str else st.dictionaries(TEXT, TEXT, max_size=3)
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    return {str: TEXT, int: INTS, bool: st.booleans(), float: numbers}[hint]


def bounded(meta: msgspec.Meta, hint: Any) -> st.SearchStrategy[Any]:
    if meta.pattern is not None:
        return st.from_regex(meta.pattern)
    if meta.le is not None:
        return st.integers(int(meta.ge or 0), int(meta.le))
    values = values_of(hint)
    return values.filter(bool) if meta.min_length else values


def instances(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {}
    for field in msgspec.structs.fields(kind):
        values = values_of(hints[field.name])
        # None means "not on the wire", which is read as the field's default
        fields[field.name] = values.map(lambda value, default=field.default: default if value is None else value)
    return st.builds(kind, **fields)


MESSAGES = st.one_of([instances(kind) for kind in wire.KNOWN])


@given(MESSAGES)
def test_every_message_comes_back_as_it_was_sent(message: m.Message) -> None:
    assert decode(encode(message)) == message
    assert decode(encode(message).encode(), strict=False) == message


@given(MESSAGES)
def test_a_sent_message_is_an_object_with_a_type_and_no_nulls(message: m.Message) -> None:
    frame = json.loads(encode(message))
    assert frame["type"] == message.TYPE
    assert None not in [value for key, value in frame.items() if key not in ("payload", "result", "data")]


@given(MESSAGES)
def test_the_older_name_is_understood_too(message: m.Message) -> None:
    old = encode_old(message)
    if message.OLD is None:
        assert old is None
    else:
        assert old is not None
        again = decode(old)
        assert type(again) is type(message)
        hints = typing.get_type_hints(type(message), include_extras=True)
        top = [name for name in message.__struct_fields__ if typing.get_origin(hints[name]) is not typing.Annotated]
        assert all(getattr(again, name) == getattr(message, name) for name in top)
        assert "data" not in json.loads(old)


def test_every_kind_of_message_has_a_name_of_its_own() -> None:
    names = [name for kind in wire.KNOWN for name in (kind.TYPE, kind.OLD) if name is not None]
    assert all(names)
    assert len(set(names)) == len(names)
    kinds = [kind for name, kind in vars(m).items() if isinstance(kind, type) and not name.startswith("_")]
    declared = {kind for kind in kinds if issubclass(kind, m.Message)}
    assert declared - {m.Message, m.Unknown} == set(m.KNOWN)
    of_depot = {kind for kind in vars(d).values() if isinstance(kind, type) and issubclass(kind, m.Message)}
    assert {kind for kind in of_depot if not kind.__name__.startswith("_")} - {m.Message} == set(d.KNOWN)


# ---------------------------------------------------------------- the field's own frames

PAYLOAD = {"video_hash": "v" * 32, "video_ext": ".mp4", "audio_hash": "a" * 32, "audio_ext": ".wav"}
PAYLOAD_TEXT = json.dumps(PAYLOAD)
BLAKE3 = "0f" * 32

FIELD = [
    ('{"type":"connected","fd":7}', m.Connected(fd=7)),
    ('{"type":"register","key":"K","device_type":"pc"}', m.Register(key="K", device_type="pc")),
    ('{"type":"register","key":"K","device_type":"mobile"}', m.Register(key="K", device_type="mobile")),
    ('{"type":"register","key":"K"}', m.Register(key="K")),
    ('{"type":"register","role":"worker"}', m.Register(role="worker")),
    (
        '{"type":"register","role":"worker","token":"T","gpu":"g1","url":"http://w:8383","features":["blake3"]}',
        m.Register(role="worker", token="T", gpu="g1", url="http://w:8383", features=("blake3",)),
    ),
    (
        '{"type":"register","role":"gpu_monitor","token":"T","gpus":["g1","g2"]}',
        m.Register(role="gpu_monitor", token="T", gpus=("g1", "g2")),
    ),
    ('{"type":"register","role":"gpu_monitor"}', m.Register(role="gpu_monitor")),
    ('{"type":"registered","key":"K","device_type":"pc"}', m.Registered(key="K", device_type="pc")),
    ('{"type":"registered","role":"worker","features":["grant"]}', m.Registered(role="worker", features=("grant",))),
    ('{"type":"ping"}', m.Ping()),
    ('{"type":"pong"}', m.Pong()),
    (
        f'{{"type":"gpu.job.submit","request_id":"R","task_type":"heygem_submit","payload":{PAYLOAD_TEXT}}}',
        m.Submit(request_id="R", payload=PAYLOAD),
    ),
    (
        f'{{"type":"gpu_task","request_id":"R","task_type":"heygem_submit","payload":{PAYLOAD_TEXT}}}',
        m.Submit(request_id="R", payload=PAYLOAD),
    ),
    (
        f'{{"type":"gpu.job.submit","request_id":"R","payload":{PAYLOAD_TEXT},"key":"K","sender_fd":7}}',
        m.Submit(request_id="R", payload=PAYLOAD, key="K", sender_fd=7),
    ),
    (
        '{"type":"ack","request_id":"R","task_type":"heygem_submit","msg":"taken"}',
        m.Ack(request_id="R", task_type="heygem_submit", msg="taken"),
    ),
    (
        '{"type":"ack","request_id":"R","data":{"gpu":"g1","url":"http://w:8383","position":0}}',
        m.Ack(request_id="R", gpu="g1", url="http://w:8383", position=0),
    ),
    (
        '{"type":"gpu.power.offline","version":"1.0","source":"api","target":"client","ts":1760000000,"request_id":"R",'
        '"trace_id":"T","task_type":"heygem_submit","msg":"off","data":{"status":"offline","task_type":"heygem_submit"}}',
        m.Offline(request_id="R", trace_id="T", ts=1760000000, task_type="heygem_submit", msg="off", status="offline"),
    ),
    (
        '{"type":"gpu.power.offline","request_id":"R","data":{"phase":"no_capacity","position":2,'
        '"eta_s":{"p50":80,"p90":120.5}}}',
        m.Offline(request_id="R", phase="no_capacity", position=2, eta_s={"p50": 80, "p90": 120.5}),
    ),
    ('{"type":"gpu_offline","request_id":"R","msg":"off"}', m.Offline(request_id="R", msg="off")),
    ('{"type":"gpu_offline","msg":"off"}', m.Offline(msg="off")),
    (
        '{"type":"gpu.power.online","version":"1.0","source":"gpu","target":"client","ts":1760000000,"request_id":"R",'
        '"trace_id":"T","data":{"status":"online","msg":"up"}}',
        m.Online(request_id="R", trace_id="T", ts=1760000000, msg="up"),
    ),
    (
        '{"type":"gpu.power.online","data":{"status":"online","gpu":"g1","url":"http://w:8383"}}',
        m.Online(gpu="g1", url="http://w:8383"),
    ),
    ('{"type":"gpu_online","msg":"up"}', m.Online(msg="up")),
    (
        '{"type":"gpu.job.result","request_id":"R","task_type":"heygem_submit","result":{"task_id":"t"}}',
        m.Result(request_id="R", task_type="heygem_submit", result={"task_id": "t"}),
    ),
    (
        '{"type":"gpu.job.result","request_id":"R","task_type":"x","error":true,"error_msg":"no face","key":"K",'
        '"sender_fd":7}',
        m.Result(request_id="R", task_type="x", error=True, error_msg="no face", key="K", sender_fd=7),
    ),
    ('{"type":"gpu_task_result","request_id":"R","result":{}}', m.Result(request_id="R", result={})),
    (
        '{"type":"gpu.power.boot","request_id":"R","source":"client","msg":"wake up"}',
        m.Boot(request_id="R", source="client", msg="wake up"),
    ),
    ('{"type":"gpu.status.query","request_id":"R"}', m.StatusQuery(request_id="R")),
    (
        '{"type":"gpu.status.response","status":"running","request_id":"R","source":"gpu_monitor","fresh":true}',
        m.StatusResponse(request_id="R", status="running", fresh=True),
    ),
    (
        '{"type":"gpu.status.response","status":"stopped","request_id":"R","source":"gpu_monitor"}',
        m.StatusResponse(request_id="R", status="stopped"),
    ),
    ('{"type":"hub.status.query","request_id":"R","since":9}', m.HubStatusQuery(request_id="R", since=9)),
    (
        '{"type":"hub.status.response","request_id":"R","ts":9,"data":{"gpus":[],"queue":1,"boot_s":{"p50":1.5}}}',
        m.HubStatus(request_id="R", ts=9, queue=1, boot_s={"p50": 1.5}),
    ),
    (
        '{"type":"gpu.power.booted","status":"booted","msg":"up","source":"gpu_monitor","request_id":"R"}',
        m.Booted(msg="up", request_id="R"),
    ),
    ('{"type":"gpu.power.booted","status":"booted","msg":"up","source":"gpu_monitor"}', m.Booted(msg="up")),
    (
        '{"type":"gpu.power.boot.result","request_id":"R","success":false,"status":"failed","msg":"no stock"}',
        m.BootResult(request_id="R", success=False, status="failed", msg="no stock"),
    ),
    (
        '{"type":"gpu.power.boot.result","request_id":"R","success":false,"status":"error","msg":"no stock"}',
        m.BootResult(request_id="R", success=False, status="error", msg="no stock"),
    ),
    ('{"type":"gpu.power.release","gpu":"studio"}', m.Release(gpu="studio")),
    (
        '{"type":"gpu.worker.state","gpu":"studio","state":"paused","reason":"the disk is full"}',
        m.WorkerState(gpu="studio", state="paused", reason="the disk is full"),
    ),
    ('{"type":"gpu.task.active","task_id":"t","task_type":"x"}', m.TaskActive(task_id="t", task_type="x")),
    ('{"type":"gpu.task.query","request_id":"R"}', m.TaskQuery(request_id="R")),
    (
        '{"type":"gpu.task.query.response","request_id":"R","active_count":2,"has_recent_active":true}',
        m.TaskQueryResponse(request_id="R", active_count=2, has_recent_active=True),
    ),
    (
        '{"type":"gpu.job.dispatch.batch","version":"1.0","data":{"batch_id":"b","jobs":[{"request_id":"R"}]}}',
        m.DispatchBatch(batch_id="b", jobs=({"request_id": "R"},)),
    ),
    ('{"type":"error","msg":"no"}', m.Error(msg="no")),
    ('{"type":"error","message":"no"}', m.Error(message="no")),
    (
        '{"type":"error","msg":"full","code":"queue_full","request_id":"R"}',
        m.Error(msg="full", code="queue_full", request_id="R"),
    ),
    ('{"type":"kicked"}', m.Kicked()),
    ('{"type":"gpu.job.cancel","request_id":"R"}', m.Cancel(request_id="R")),
    (
        '{"type":"gpu.monitor.state","gpu":"studio","connected":false}',
        m.MonitorState(gpu="studio", connected=False),
    ),
    (
        '{"type":"gpu.job.work","request_id":"R","seconds":2.5,"ended":true}',
        m.JobWork(request_id="R", seconds=2.5, ended=True),
    ),
    (
        '{"type":"gpu.job.state","request_id":"R","state":"done","seconds":2.5}',
        m.JobState(request_id="R", state="done", seconds=2.5),
    ),
    ('{"type":"gpu.job.order","jobs":["R","S"]}', m.JobOrder(jobs=("R", "S"))),
    (
        '{"type":"gpu.job.queued","request_id":"R","position":3,"eta_s":40.5,"reason":"at work: a"}',
        m.JobQueued(request_id="R", position=3, eta_s=40.5, reason="at work: a"),
    ),
    ('{"type":"gpu.job.done","request_id":"R"}', m.JobDone(request_id="R")),
    ('{"type":"gpu.job.released","request_id":"R"}', m.JobReleased(request_id="R")),
    ('{"type":"gpu.power.state","gpu":"g1","state":"starting"}', m.PowerState(gpu="g1", state="starting")),
    (
        '{"type":"gpu.job.capability","request_id":"R","capability":"eyJ.a.b","expires":9}',
        m.Capability(request_id="R", capability="eyJ.a.b", expires=9),
    ),
    ('{"type":"license.revoked","license":"0f3a"}', m.LicenseRevoked(license="0f3a")),
    (
        '{"type":"gpu.kinds","number":1,"of":1,"kind":{"name":"k"}}',
        m.GpuKinds(number=1, of=1, kind={"name": "k"}),
    ),
    ('{"type":"gpu.kinds.query","request_id":"R"}', m.KindsQuery(request_id="R")),
    (
        '{"type":"gpu.kinds.response","request_id":"R","data":{"number":1,"of":1,"kinds":[],"complete":true}}',
        m.KindsResponse(request_id="R", complete=True),
    ),
    (
        '{"type":"gpu.admin","request_id":"R","gpu":"g1","action":"keep","seconds":60}',
        m.GpuAdmin(request_id="R", gpu="g1", action="keep", seconds=60),
    ),
    (
        '{"type":"gpu.admin.response","request_id":"R","gpu":"g1","action":"keep","until":9}',
        m.GpuAdminDone(request_id="R", gpu="g1", action="keep", until=9),
    ),
    ('{"type":"gpu.kinds.changed","gpu":"g1"}', m.KindsChanged(gpu="g1")),
    (
        f'{{"type":"gpu.depot.offer","request_id":"R","files":[{{"name":"video","blake3":"{BLAKE3}","size":5}}]}}',
        d.DepotOffer(request_id="R", files=(d.DepotFile(name="video", blake3=BLAKE3, size=5),)),
    ),
    (
        f'{{"type":"gpu.depot.places","request_id":"R","files":[{{"name":"v","blake3":"{BLAKE3}","size":5,'
        '"parts":{"2":"http://s/2"},"part_size":3,"parted":1}],"expires":9}',
        d.DepotPlaces(
            request_id="R",
            files=(d.DepotPlace(name="v", blake3=BLAKE3, size=5, parts={"2": "http://s/2"}, part_size=3, parted=1),),
            expires=9,
        ),
    ),
    (
        '{"type":"gpu.depot.places","request_id":"R","depot":"http://d","capability":"e.c.s","code":"full"}',
        d.DepotPlaces(request_id="R", depot="http://d", capability="e.c.s", code="full"),
    ),
    (
        '{"type":"gpu.depot.progress","request_id":"R","left":5,"rate":2.5}',
        d.DepotProgress(request_id="R", left=5, rate=2.5),
    ),
    ('{"type":"gpu.depot.stored","request_id":"R","until":9}', d.DepotStored(request_id="R", until=9)),
    ('{"type":"gpu.depot.withdraw","request_id":"R"}', d.DepotWithdraw(request_id="R")),
    (
        '{"type":"gpu.depot.fetch","request_id":"R","task_type":"paint","payload":{"kind":"paint"},"license":"L"}',
        d.DepotFetch(request_id="R", task_type="paint", payload={"kind": "paint"}, license="L"),
    ),
    (
        f'{{"type":"gpu.depot.delivered","request_id":"R","files":[{{"name":"r","blake3":"{BLAKE3}","url":"http://s"}}]}}',
        d.DepotDelivered(request_id="R", files=(d.DepotPlace(name="r", blake3=BLAKE3, url="http://s"),)),
    ),
    ('{"type":"gpu.depot.query","request_id":"R"}', d.DepotQuery(request_id="R")),
    (f'{{"type":"gpu.depot.list","request_id":"R","after":"{BLAKE3}"}}', d.DepotList(request_id="R", after=BLAKE3)),
    (
        f'{{"type":"gpu.depot.listed","request_id":"R","files":[{{"blake3":"{BLAKE3}"}}],"count":1,"size":5,"more":true}}',
        d.DepotListed(request_id="R", files=({"blake3": BLAKE3},), count=1, size=5, more=True),
    ),
    (
        f'{{"type":"gpu.depot.remove","request_id":"R","files":["{BLAKE3}"]}}',
        d.DepotRemove(request_id="R", files=(BLAKE3,)),
    ),
    ('{"type":"gpu.depot.expiring","jobs":["R"],"at":9}', d.DepotExpiring(jobs=("R",), at=9)),
    ('{"type":"url","url":"http://w:8383"}', m.Url(url="http://w:8383")),
    ("http://w:8383", m.Url(url="http://w:8383")),
    ("https://w.example/x", m.Url(url="https://w.example/x")),
    (" http://w:8383\n", m.Url(url="http://w:8383")),
    ('"http://w:8383"', m.Url(url="http://w:8383")),
]


@pytest.mark.parametrize(("frame", "message"), FIELD)
def test_the_fields_frames_are_understood(frame: str, message: m.Message) -> None:
    assert decode(frame) == message
    assert decode(frame.encode()) == message
    assert decode(frame, strict=False) == message


def test_a_number_may_be_a_whole_number_and_nothing_else() -> None:
    for price, read in (("5", 5), ("5.5", 5.5)):
        message = decode(f'{{"type":"register","role":"gpu_monitor","price":{price}}}')
        assert isinstance(message, m.Register)
        assert message.price == read
    for price in ("true", '"5"'):
        with pytest.raises(Malformed, match='"price" must be a number'):
            decode(f'{{"type":"register","role":"gpu_monitor","price":{price}}}')


def test_every_kind_has_a_frame_in_the_list_above() -> None:
    assert {type(message) for _, message in FIELD} == set(wire.KNOWN)


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            m.Submit(request_id="R", payload=PAYLOAD),
            {"type": "gpu.job.submit", "request_id": "R", "task_type": "heygem_submit", "payload": PAYLOAD},
        ),
        (
            m.Offline(request_id="R", ts=5, task_type="x", msg="off", phase="booting"),
            {
                "type": "gpu.power.offline", "version": "1.0", "source": "api", "target": "client", "ts": 5,
                "request_id": "R", "task_type": "x", "msg": "off", "data": {"status": "offline", "phase": "booting"},
            },
        ),
        (
            m.Online(ts=5, msg="up"),
            {
                "type": "gpu.power.online", "version": "1.0", "source": "gpu", "target": "client", "ts": 5,
                "data": {"status": "online", "msg": "up"},
            },
        ),
        (m.Ack(request_id="R"), {"type": "ack", "request_id": "R"}),
        (m.Register(key="K", device_type="pc"), {"type": "register", "key": "K", "device_type": "pc"}),
    ],
)  # fmt: skip
def test_frames_are_written_as_the_field_expects_them(message: m.Message, frame: dict[str, Any]) -> None:
    assert json.loads(encode(message)) == frame


def test_the_old_broadcast_is_a_type_and_a_text() -> None:
    old = json.loads(encode_old(m.Online(msg="up", gpu="g1")) or "")
    assert (old["type"], old["msg"]) == ("gpu_online", "up")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (m.Error(msg="a", message="b"), "a"),
        (m.Error(message="b"), "b"),
        (m.Error(), "the hub reported an error without a text"),
    ],
)
def test_an_error_has_a_text_however_it_was_spelt(error: m.Error, text: str) -> None:
    assert error.text == text


def test_an_addition_at_the_top_instead_of_in_data_is_found_too() -> None:
    assert decode('{"type":"ack","request_id":"R","gpu":"g1"}') == m.Ack(request_id="R", gpu="g1")


def test_unknown_fields_are_ignored() -> None:
    assert decode('{"type":"ping","new":{"x":[1]}}') == m.Ping()


@pytest.mark.parametrize("text", ["null", '""'])
def test_null_and_an_empty_text_count_as_absent(text: str) -> None:
    assert decode(f'{{"type":"gpu_offline","request_id":{text},"msg":{text}}}') == m.Offline()


def test_an_unknown_type_is_kept_and_relayed_unchanged() -> None:
    frame = {"type": "gpu.future", "x": [1, {"y": None}]}
    message = decode(json.dumps(frame))
    assert message == m.Unknown(type="gpu.future", frame=frame)
    assert to_frame(message) == frame
    assert decode(encode(message)) == message


# ---------------------------------------------------------------- invalid frames

BAD = [
    ("", "a frame is a JSON object in UTF-8"),
    ("hello", "a frame is a JSON object in UTF-8"),
    ("{", "a frame is a JSON object in UTF-8"),
    ('"hello"', "a frame is a JSON object in UTF-8"),
    ("ftp://x", "a frame is a JSON object in UTF-8"),
    ('{"type":"ping"}{"type":"ping"}', "a frame is a JSON object in UTF-8"),
    ('{"type":"connected","fd":NaN}', "a frame is a JSON object in UTF-8"),
    ('{"type":"connected","fd":1e999}', "a frame is a JSON object in UTF-8"),
    ('{"type":"gpu.job.cancel","request_id":"\\ud800"}', "a frame is a JSON object in UTF-8"),
    ('{"type":"gpu.job.cancel","request_id":"\ud800"}', "a frame is a JSON object in UTF-8"),
    ("[]", "a frame is a JSON object, this is a list"),
    ("null", "a frame is a JSON object, this is null"),
    ("true", "a frame is a JSON object, this is true or false"),
    ("1.5", "a frame is a JSON object, this is a number"),
    ("7", "a frame is a JSON object, this is a number"),
    ("{}", 'a frame needs "type", a string such as'),
    ('{"type":7}', 'a frame needs "type", a string such as'),
    ('{"type":""}', 'a frame needs "type", a string such as'),
    ('{"type":["ping"]}', 'a frame needs "type", a string such as'),
    ('{"type":"gpu.job.submit"}', 'gpu.job.submit: "request_id" is missing, a string is needed'),
    ('{"type":"gpu_task","request_id":7}', 'gpu_task: "request_id" must be a string'),
    ('{"type":"gpu.job.submit","request_id":""}', '"request_id" must have 1 to 200 characters'),
    (f'{{"type":"gpu.job.submit","request_id":"{"x" * 201}"}}', '"request_id" must have 1 to 200 characters'),
    ('{"type":"gpu.job.submit","request_id":"R","payload":[]}', '"payload" must be an object'),
    ('{"type":"connected"}', 'connected: "fd" is missing, a whole number is needed'),
    ('{"type":"connected","fd":true}', '"fd" must be a whole number'),
    ('{"type":"connected","fd":1.0}', '"fd" must be a whole number'),
    ('{"type":"connected","fd":123456789012345678901234567890}', '"fd" must be a whole number'),
    ('{"type":"register","features":"blake3"}', '"features" must be a list, each a string'),
    ('{"type":"register","features":["a",1]}', '"features" must be a list, each a string'),
    ('{"type":"gpu.power.boot.result","success":1}', '"success" must be true or false'),
    ('{"type":"gpu.job.dispatch.batch","data":{"jobs":[1]}}', '"jobs" must be a list, each an object'),
    ('{"type":"ack","request_id":"R","data":{"position":"2"}}', '"position" must be a whole number'),
]


@pytest.mark.parametrize(("frame", "sentence"), BAD)
def test_an_invalid_frame_is_answered_with_a_message(frame: str, sentence: str) -> None:
    with pytest.raises(Malformed) as told:
        decode(frame)
    assert sentence in str(told.value)


def test_bytes_that_are_not_utf_8_are_malformed() -> None:
    with pytest.raises(Malformed, match="in UTF-8"):
        decode(b'{"type":"gpu.job.cancel","request_id":"\xff"}')


def test_a_client_takes_an_optional_field_of_the_wrong_kind_as_absent() -> None:
    frame = '{"type":"ack","request_id":"R","msg":5,"data":{"gpu":["g"],"position":"2","url":"u"}}'
    assert decode(frame, strict=False) == m.Ack(request_id="R", url="u")
    assert decode('{"type":"gpu.power.boot.result","success":"no"}', strict=False) == m.BootResult()
    assert decode('{"type":"gpu_offline","request_id":""}', strict=False) == m.Offline()


def test_a_client_requires_the_necessary_fields() -> None:
    with pytest.raises(Malformed, match='"request_id" must be a string'):
        decode('{"type":"ack","request_id":7}', strict=False)


# ---------------------------------------------------------------- size and depth


def sized(character: str, size: int) -> str:
    """A frame of exactly `size` bytes, its text made of `character`."""
    empty = len('{"type":"kicked","msg":""}')
    width = len(character.encode())
    filler = character * ((size - empty) // width)
    return f'{{"type":"kicked","msg":"{filler}{"x" * ((size - empty) % width)}"}}'


@pytest.mark.parametrize("character", ["x", "é", "語", "😀"])
def test_the_limit_is_in_bytes_whatever_the_text_is_made_of(character: str) -> None:
    fits, exceeds = sized(character, wire.MAX_FRAME), sized(character, wire.MAX_FRAME + 1)
    assert isinstance(decode(fits), m.Kicked)
    assert isinstance(decode(fits.encode()), m.Kicked)
    for frame in (exceeds, exceeds.encode()):
        with pytest.raises(Malformed, match=f"{wire.MAX_FRAME} bytes at most, this one has {wire.MAX_FRAME + 1}"):
            decode(frame)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"type":"ping","a":['])
def test_a_frame_of_only_opening_brackets_is_malformed(opening: str) -> None:
    with pytest.raises(Malformed):
        decode((opening * wire.MAX_FRAME)[: 60 * 1024])


def nested(depth: int) -> str:
    return '{"type":"gpu.job.submit","request_id":"R","payload":' + '{"a":' * depth + "1" + "}" * depth + "}"


@pytest.mark.parametrize("depth", [wire.MAX_DEPTH, 300, 1_000, 5_000])
def test_a_deep_frame_is_malformed_for_it_could_not_be_passed_on(depth: int) -> None:
    with pytest.raises(Malformed):
        decode(nested(depth))


def test_the_deepest_allowed_nesting_can_be_relayed() -> None:
    message = decode(nested(wire.MAX_DEPTH - 1))
    assert decode(encode(message)) == message


def test_brackets_side_by_side_or_within_a_text_are_not_depth() -> None:
    many = {"list": [[]] * 5_000, "text": "[{" * 5_000}
    assert decode(json.dumps({"type": "gpu.job.submit", "request_id": "R", "payload": many})) == m.Submit(
        request_id="R", payload=many
    )


# ---------------------------------------------------------------- whatever comes


def understood(frame: str | bytes) -> None:
    """Either a message that can be sent on, or `Malformed` with a sentence; nothing else."""
    for strict in (True, False):
        try:
            message = decode(frame, strict=strict)
        except Malformed as error:
            said = str(error)
        else:
            said = encode(message)
        assert said


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_no_frame_whatever_raises_anything_but_malformed(frame: str | bytes) -> None:
    understood(frame)


@given(st.text(st.characters(categories=["Cs", "L"]), max_size=20))
def test_a_bare_address_of_odd_characters_does_no_harm(rest: str) -> None:
    understood(f"http://{rest}")


FIELD_NAMES = sorted({name for kind in m.KNOWN for name in kind.__struct_fields__} | {"data"})
NAMES = st.sampled_from([kind.TYPE for kind in m.KNOWN] + [kind.OLD for kind in m.KNOWN if kind.OLD])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("x" * 201),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELD_NAMES), inner, max_size=4),
)


@given(JSON | ODD)
def test_no_json_whatever_raises_anything_but_malformed(value: Any) -> None:
    understood(json.dumps(value))


@given(NAMES, st.dictionaries(st.sampled_from(FIELD_NAMES), ODD, max_size=8))
def test_known_types_with_odd_fields_raise_nothing_but_malformed(name: str, fields: dict[str, Any]) -> None:
    understood(json.dumps({**fields, "type": name}))
    try:
        message = from_frame({**fields, "type": name}, strict=False)
    except Malformed:
        return
    assert type(message) in m.KNOWN or (isinstance(message, m.Unknown) and name in wire.BARE)


@given(OBJECTS)
def test_a_payload_is_passed_on_unchanged(payload: dict[str, Any]) -> None:
    message = m.Submit(request_id="R", payload=payload)
    assert orjson.loads(encode(message))["payload"] == payload
