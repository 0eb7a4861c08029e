"""The texts of each language: none is missing, none is unused, every placeholder is filled."""

import ast
import io
import json
import re
import string
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from wakestream.adapters.cli.i18n import choose, chosen, t
from wakestream.adapters.cli.i18n.catalog import asked_for, catalog, known
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.table import table, width
from wakestream.adapters.config import units
from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import EVENT_KINDS, kind_of

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "adapters" / "cli" / "i18n"
EN = catalog("en")
ZH = catalog("zh")


def blanks(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


@cache
def code() -> list[tuple[Path, ast.Call | ast.Constant | ast.JoinedStr]]:
    """The calls and texts of the code."""
    trees = ((path, ast.parse(path.read_text(encoding="utf-8"))) for path in (ROOT / "adapters").rglob("*.py"))
    kinds = (ast.Call, ast.Constant, ast.JoinedStr)
    return [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


def names(argument: ast.expr) -> Iterator[str]:
    """The names that this may be; one that ends with * stands for all that begin so."""
    match argument:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=body, orelse=other):
            yield from (*names(body), *names(other))
        case ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_]):
            yield f"{begin}*"


def said() -> Iterator[tuple[str, str, ast.Call]]:
    """Each name that a `t(...)` or `known(...)` of the code may say, and where."""
    for path, node in code():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("t", "known"):
            yield from ((f"{path.name}:{node.lineno}", name, node) for name in names(node.args[0]))


def test_both_catalogs_have_the_same_entries() -> None:
    assert ZH.keys() == EN.keys()


def sections(name: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The file as it is written, with what stands in it twice."""
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    found: list[tuple[str, list[tuple[str, str]]]] = json.loads(text, object_pairs_hook=list)
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_no_name_and_no_section_stands_in_a_catalog_twice(name: str) -> None:
    found = sections(name)
    keys = [key for _, texts in found for key, _ in texts]
    assert len(keys) == len(set(keys)) == len(catalog(name))
    assert len(found) == len({section for section, _ in found})


def test_the_languages_have_the_same_sections_in_the_same_order() -> None:
    order = {name: [(section, [key for key, _ in texts]) for section, texts in sections(name)] for name in ("en", "zh")}
    assert order["zh"] == order["en"]


def test_a_sentence_has_the_same_blanks_in_each_language() -> None:
    other = {name: blanks(ZH[name]) for name in EN}
    assert other == {name: blanks(sentence) for name, sentence in EN.items()}


def test_every_text_in_the_code_is_in_the_catalog_and_its_fields_are_given() -> None:
    assert len([*said()]) > 150
    for where, name, call in said():
        if name.endswith("*"):
            assert any(key.startswith(name[:-1]) for key in EN), where
        else:
            assert blanks(EN[name]) == {keyword.arg for keyword in call.keywords}, where


def test_no_sentence_is_left_over() -> None:
    nodes = [node for path, node in code() if path.parent.name != "i18n"]
    exact = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    begun = {name[:-1] for node in nodes if isinstance(node, ast.JoinedStr) for name in names(node)}
    families = tuple(begin for begin in begun if begin.endswith("."))
    exact |= set(EVENT_KINDS)  # the text of an event may have the name of its event
    assert [key for key in EN if key not in exact and not key.startswith(families)] == []


def test_the_text_with_the_name_of_an_event_names_its_fields_only() -> None:
    own = {each: EN[kind_of(each)] for each in get_args(e.Progress) if each not in words._PROGRESS}
    assert blanks("".join(own.values()))
    for each, sentence in own.items():
        assert blanks(sentence) <= {field.name for field in fields(each)}, each


def test_chinese_is_chinese() -> None:
    neutral = {"waking", "cost.gpu", "gpu", "the_gpu", "why.phase"}
    assert {key for key, sentence in ZH.items() if sentence.isascii()} == neutral


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh-Hans"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "zh_CN.UTF-8", "WAKESTREAM_LANG": "en"}, "en"),
        ({"LANG": "C", "WAKESTREAM_LANG": "zh"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_locale_sets_the_language_unless_chosen(environment: dict[str, str], language: str) -> None:
    assert asked_for(environment) == language


@pytest.mark.parametrize(
    ("system", "language"),
    [("Chinese (Simplified)_China", "zh"), ("zh_CN", "zh"), ("English_United States", "en"), (None, "en")],
)
def test_the_system_sets_the_language(monkeypatch: pytest.MonkeyPatch, system: str | None, language: str) -> None:
    monkeypatch.setattr("locale.getlocale", lambda: (system, "cp936"))
    assert asked_for({}) == language


@pytest.mark.parametrize(("encoding", "spoken"), [("ascii", "en"), ("latin-1", "en"), ("utf-8", "zh"), ("gbk", "zh")])
def test_chinese_needs_an_output_that_encodes_it(monkeypatch: pytest.MonkeyPatch, encoding: str, spoken: str) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace"))
    choose("zh")
    assert chosen() == spoken
    choose("en")


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            e.Queued(2, "booting", e.Eta(60, 125)),
            "GPU 已关机，任务已排队，队列第 2 位；正在启动 GPU（通常还需 1 分 00 秒，很少超过 2 分 05 秒）",
        ),
        (e.Waking(42, "no_monitor"), "已等待 42 秒：监控程序没有连接，无法启动 GPU；正在等待"),
        (e.Waking(1, "busy", eta=e.Eta(2, 2)), "已等待 1.0 秒：使用此密钥的另一个任务正在运行，2.0 秒后重试"),
        (e.Granted("offline", 61, "studio"), "GPU studio 已开机，等待了 1 分 01 秒"),
        (e.Uploading(5, 10), "正在上传 50 %（5 B / 10 B）"),
        (e.Running(12, "processing", 3, 25), "正在合成 12 %，第 3 / 25 帧"),
        (e.Failed("it is gone", "gpu_lost"), "失败：GPU 断开连接：it is gone"),
        (
            e.Failed("connection refused", "hub_unreachable"),
            "失败：无法连接服务器：connection refused；请检查服务器是否在运行、地址是否正确（--hub、WAKESTREAM_HUB）",
        ),
        (e.TimedOut("online", 1800), "超时：GPU 在 30 分 00 秒内没有上线；请查看监控程序的日志（--online-timeout）"),
        (e.Done(Path("out.mp4"), 1500), "完成：out.mp4（1.5 kB）"),
    ],
)  # fmt: skip
def test_job_events_have_chinese_texts(event: e.JobEvent, said: str) -> None:
    assert chosen() == "zh"
    assert words.event(event) == said


def test_a_busy_key_is_reported_with_the_time_of_the_next_try() -> None:
    said = "waiting 1.0 s: another job with this key is running, trying again in 2.0 s"
    assert words.event(e.Waking(1, "busy", eta=e.Eta(2, 2))) == said


def test_every_timeout_names_a_flag_or_what_to_check() -> None:
    for key, sentence in EN.items():
        if key.startswith("timed_out.") and key != "timed_out.other":
            assert "-timeout" in sentence or "see the hub's log" in sentence, key


def test_an_unknown_word_is_shown_unchanged() -> None:
    assert words.phase("warming_up") == "warming up"
    assert words.state("dreaming") == "dreaming"
    assert words.reason("moonstruck", "why not") == "why not"
    assert not known("reason.moonstruck")


def test_a_name_that_no_catalogue_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        t("no such sentence")


def test_a_table_is_straight_also_with_wide_letters() -> None:
    lines = table([("任务", "STATE"), ("ws-1", "完成"), ("x", "cancelled")], right=(1,))
    assert lines == ["任务      STATE", "ws-1       完成", "x     cancelled"]
    assert {width(line) for line in lines} == {15}


@pytest.mark.parametrize(
    ("seconds", "said"), [(9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min")]
)
def test_a_time_is_rounded_before_its_unit_is_chosen(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said
    assert units.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_960, "1.0 MB"), (10**15, "1000.0 TB")],
)
def test_so_is_a_size(count: int, said: str) -> None:
    assert units.size(count) == said
    assert units.size(count, "bytes") == said.replace(" B", " bytes")


@pytest.mark.parametrize(
    "path",
    [
        *(FOLDER / f"{name}.json" for name in ("zh", "help_zh", "reasons_zh")),
        *(ROOT / "adapters" / page / "static" / "words-zh.js" for page in ("daemon/console", "hub/operator")),
        *(ROOT / "docs" / "zh").glob("*.md"),
    ],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_chinese_has_one_word_for_each_term(path: Path) -> None:
    """The words of docs/glossary.md: a worker is 工作程序, a license 许可证, the hub 服务器, the monitor 监控程序."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        text = re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    role = r"(?<=[\u4e00-\u9fff，；] )(?:worker|hub|monitor)(?= [\u4e00-\u9fff])"
    assert re.findall(rf"合成程序|(?<!或)许可(?!证)|GPU 机器|{role}", text) == []
