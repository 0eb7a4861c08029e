"""README.md is true where a machine can tell, README.zh-CN.md is the same page, and no page links to nothing."""

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from wakestream.adapters.cli import main

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
ENGLISH, CHINESE = PAGES.values()
ALL_PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "zh").glob("*.md")]


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "docs/design.md"])
def test_the_page_of_a_job_is_shown_as_it_stands(name: str) -> None:
    code = (ROOT / "streams/jobs/standard.py").read_text(encoding="utf-8")
    page = code[code.index("def whole(") :].rstrip()
    assert page.count("\n") < 60
    assert f"```python\n{page}\n```" in (ROOT / name).read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Every `wakestream …` that stands in an indented block, as its arguments."""
    text = re.sub(r" \\\n +", " ", page)
    found = re.findall(r"^    (?:\S+/)?wakestream (.+)$", text, re.MULTILINE)
    return [shlex.split(line.split(" > ")[0], comments=True) for line in found]


def blocks(page: str) -> list[str]:
    """All code, fenced and indented, without what is said in it to people."""
    fenced = re.findall(r"^```.*?^```$", page, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    indented = [re.sub(r" *(?<!\S)# .*", "", line) for line in re.findall(r"^    .+$", rest, re.MULTILINE)]
    return fenced + [line for line in indented if line.strip()]


def shape(page: str) -> list[str]:
    """The page without its words: headings by depth, list items, rows of tables by their columns, in their order."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    marks = [mark[0] for line in text.splitlines() if (mark := re.match(r"#+ |- |\|.*", line))]
    return [f"| {mark.count('|')}" if mark.startswith("|") else mark for mark in marks]


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page)


def anchors(page: str) -> set[str]:
    """Its headings, as GitHub names them in addresses."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words_of_code(page: str) -> Counter[str]:
    """What stands in backquotes within the text: names, flags, commands."""
    text = re.sub(r"^```.*?^```$|^    .*?$", "", page, flags=re.MULTILINE | re.DOTALL)
    return Counter(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("arguments", commands(ENGLISH), ids=" ".join)
def test_a_command_of_the_page_is_one_that_the_program_understands(arguments: list[str]) -> None:
    assert main.parser_of((arguments[0],)).parse_args(arguments).command == arguments[0]


def test_the_picture_of_a_log_is_what_the_command_below_it_draws(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    log, picture = re.findall(r"`wakestream replay (\S+) --svg (\S+)`", page)[0]
    assert main.main(["replay", str(ROOT / log), "--svg", str(tmp_path / "now.svg")]) == 0
    drawn = (tmp_path / "now.svg").read_text(encoding="utf-8")
    assert drawn == (ROOT / picture).read_text(encoding="utf-8"), f"draw it again: replay {log} --svg {picture}"
    assert "prefers-color-scheme:dark" in drawn


def test_the_reference_names_every_command_and_the_start_page_begins_with_up_and_submit() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    own = {"daemon", "hub", "monitor", "worker"}
    assert {name.split()[0] for name in words_of_code(reference)} >= set(main.COMMANDS) - own
    assert [words[0] for words in commands(ENGLISH)] == ["up", "submit", "demo"]


def test_the_start_page_has_at_most_1300_words_without_code_and_four_links_at_its_end() -> None:
    text = re.sub(r"^```.*?^```$|^    .*?$", "", ENGLISH, flags=re.MULTILINE | re.DOTALL)
    assert len(text.split()) <= 1300
    assert len(links(ENGLISH.partition("## Next")[2])) == 4


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_code_is_narrow_enough_to_be_read_without_scrolling(page: str) -> None:
    assert [line for line in page.splitlines() if line.startswith("    ") and len(line) > 108] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_a_page_links_only_to_what_is_there(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        place, _, heading = link.partition("#")
        if place.startswith("http"):
            continue
        target = page.parent / place if place else page
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "zh").glob("*.md")), ids=lambda page: page.name)
def test_a_chinese_page_has_the_headings_lists_tables_links_and_code_of_the_english_one(page: Path) -> None:
    english, chinese = ((folder / page.name).read_text(encoding="utf-8") for folder in (ROOT / "docs", page.parent))
    assert shape(chinese) == shape(english)
    assert blocks(chinese) == blocks(english)
    assert words_of_code(chinese) == words_of_code(english)
    assert places(chinese, page.parent) == places(english, ROOT / "docs")


def places(page: str, folder: Path) -> list[str]:
    """What a page links to, the same for both languages; a place within a page is left out."""
    paths = [link.partition("#")[0] for link in links(page) if not link.startswith("#")]
    found = [path if path.startswith("http") else str((folder / path).resolve()) for path in paths]
    return sorted(path.replace(f"{ROOT}/docs/zh/", f"{ROOT}/docs/") for path in found)


def test_both_languages_have_the_same_headings_lists_tables_links_and_code() -> None:
    assert shape(CHINESE) == shape(ENGLISH)
    assert blocks(CHINESE) == blocks(ENGLISH)
    assert words_of_code(CHINESE) == words_of_code(ENGLISH)
    other = {"README.md": "README.zh-CN.md"}
    other |= {f"docs/zh/{page}.md": f"docs/{page}.md" for page in ("tutorial", "setup")}
    assert sorted(other.get(link, link) for link in links(CHINESE)) == sorted(links(ENGLISH))


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_one_command_runs_the_demo_and_one_the_tests_and_ci_runs_both(page: str) -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("make demo", "make test"):
        assert f"    {command}\n" in page
        assert f"\n{command}\n" in ci
