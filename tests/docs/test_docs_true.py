"""What the pages name exists: files, links with their headings, classes; the map lists every room; the sample runs."""

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "docs/decisions", "docs/engines", "docs/power", "deploy", "examples")
    for path in (ROOT / folder).glob("*.md")
)
FOLDERS = "operators|streams|adapters|tests|deploy|docs|examples|benchmarks"
OTHERS = {
    "BootTrigger", "DescribeCompShareInstance", "DynamicUser", "EnvironmentFile", "EventSource", "LoadCredential",
    "RetCode", "StartCompShareInstance", "StopCompShareInstance",
}  # fmt: skip
"""Names of other projects."""


TIMES = re.compile(r"^[A-Z_, ]+(?:: Final)? = .*(?:\d\.\d|Backoff\()", re.MULTILINE)
"""A constant that is a time, or a way to retry."""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page.relative_to(ROOT).as_posix()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def words_of_the_code() -> set[str]:
    files = [
        path
        for folder in FOLDERS.split("|")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".js", ".xml", ".service", ".plist") and "node_modules" not in path.parts
    ]
    return {word for path in files for word in re.findall(r"[A-Za-z_]\w+", path.read_text("utf-8", "replace"))}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_exist(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        file = ((ROOT / page).parent / path if path else ROOT / page).resolve()
        assert file.exists(), target
        assert not heading or heading in anchors(file), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_empty_line_cuts_a_table_of_a_page(page: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE)
    assert [table for table in tables if not re.match(r".*\n\|(-+\|)+\n", table)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_class_that_a_page_names_is_in_the_code(page: str) -> None:
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w*)(?:\.\w+)?`", prose(page)))
    assert named - words_of_the_code() - OTHERS == set()


def test_the_map_lists_every_room_and_no_other() -> None:
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for floor in ("operators", "streams", "adapters")
        for path in (ROOT / floor).glob("*/**/__init__.py")
    }
    first_cells = "".join(re.findall(r"^\| (`[^|]+`) \|", read("docs/rooms.md"), re.MULTILINE))
    assert sorted(re.findall(r"`([\w/]+)`", first_cells)) == sorted(rooms)


def test_the_index_of_decisions_lists_every_record() -> None:
    listed = re.findall(r"^\d+\. \[[^\]]+\]\(([^)]+)\)$", read("docs/decisions/README.md"), re.MULTILINE)
    assert listed == sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    (block,) = re.findall(r"^```python\n(# file: .*?)^```$", read("docs/design.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "power.py").write_text(block, encoding="utf-8")
    return runpy.run_path(str(tmp_path / "power.py"))


def test_the_decider_of_the_guide_switches_on_with_the_first_job_and_off_with_the_last(sample: dict[str, Any]) -> None:
    power, state, switched = sample["POWER"], sample["State"](), []
    asked, ended = sample["Asked"], sample["Ended"]
    for event in (asked("a"), asked("b"), asked("b"), ended("a"), ended("a"), ended("b")):
        switched += [command.on for command in power.step(state, event, 0.0).commands]
    assert switched == [True, False]
    assert state.jobs == set()


def test_the_decider_of_the_guide_has_its_state_again_from_its_snapshot(sample: dict[str, Any]) -> None:
    power, state = sample["POWER"], sample["State"]({"a", "b"})
    assert power.restore(power.snapshot(state)) == state


def test_each_word_of_the_glossary_has_one_meaning_and_its_chinese_word_is_chinese() -> None:
    english, chinese = read("docs/glossary.md").split("In Chinese texts")
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", english, re.MULTILINE)
    assert len(words) == len(set(words)) > 30
    pairs = re.findall(r"^\| ([a-zA-Z ]+) \| ([^|]+) \|$", chinese, re.MULTILINE)[1:]
    assert [word for word, said in pairs if not re.search("[\u4e00-\u9fff]", said)] == []
    assert {"worker", "license", "hub", "GPU machine"} <= {word for word, _ in pairs}


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_all_times_of_a_job_are_on_its_page_or_in_a_file_that_the_list_of_the_others_names(page: str) -> None:
    folders = ("operators/stages", "operators/lifecycle", "streams/jobs")
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    with_times = {path.relative_to(ROOT).as_posix() for path in files if TIMES.search(path.read_text())}
    _, _, others = read("docs/timeouts.md").partition("## Other times\n")
    assert with_times == {*re.findall(r"\]\(\.\./((?:operators|streams)/\S+)\)", others.partition("\n## ")[0])}
    assert "(docs/timeouts.md#other-times)" in read(page)
