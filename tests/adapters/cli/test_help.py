"""The command line explains itself: help, examples, exit codes, and complaints that programs can read."""

import argparse
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wakestream.adapters.cli import exit_codes, main
from wakestream.adapters.cli import parser as parsing
from wakestream.adapters.cli.i18n import choose, chosen
from wakestream.adapters.cli.i18n.catalog import catalog
from wakestream.adapters.cli.render.table import width

SENTENCES = catalog("help_zh")
LOGS = Path(__file__).parents[2] / "logs"


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    choose("en")
    yield
    choose("en")
    parsing.Parser.in_json = False


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        main.main(argv)
    assert end.value.code == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        main.main(argv)
    assert end.value.code == exit_codes.USAGE
    return capsys.readouterr().err


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_help_has_a_summary_examples_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    text = shown(capsys, name, "--help")
    assert text.startswith(f"usage: wakestream {name} [options]")
    assert len(main.COMMANDS[name]) <= 90
    examples = re.findall(r"^  wakestream (.*)$", text[text.index("\nexamples:") :], re.MULTILINE)
    assert 1 <= len(examples) <= 4
    assert text.count("exit codes: 0 ") == 1
    assert "--quiet" in text
    assert "\neverywhere:\n" in text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_examples_are_command_lines_that_are_taken(name: str) -> None:
    for line in main.load(name).EXAMPLES:  # type: ignore[attr-defined] - every command has some
        words = shlex.split(re.split(r" [|>]+ ", line)[0])
        args = main.parser_of((name,)).parse_args(words)
        assert args.command == name


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", [None, *main.COMMANDS])
def test_help_fits_80_columns_and_its_examples_can_still_be_pasted(
    name: str | None, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *([name] if name else []), "--help", "--lang", language)
    assert [line for line in text.splitlines() if width(line) > 80] == []
    lines = re.findall(r"^  wakestream (.*)$", re.sub(r" \\\n\s*", " ", text), re.MULTILINE)
    assert name is None or lines[-len(main.load(name).EXAMPLES) :] == list(main.load(name).EXAMPLES)  # type: ignore[attr-defined]


def test_the_help_of_all_names_the_exit_codes_and_where_there_is_more(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(shown(capsys, "--help").split())
    assert text.count("exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 timed out, 4 unreachable") == 1
    assert "wakestream help COMMAND" in text


@pytest.mark.parametrize("topic", [("jobs",), ("license", "issue")])
def test_help_with_a_command_is_that_commands_help(topic: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["help", *topic]) == 0
    assert capsys.readouterr().out == shown(capsys, *topic, "--help")


@pytest.mark.parametrize("argv", [("--lang", "zh", "help", "submit"), ("help", "submit", "--lang", "zh")])
def test_help_for_a_command_is_in_the_chosen_language(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == 0
    assert capsys.readouterr().out == shown(capsys, "--lang", "zh", "submit", "--help")
    assert chosen() == "zh"


def test_help_with_a_mistyped_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["help", "jbos"]) == 2
    assert "did you mean 'jobs'?" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--json", "--hub=http://hub.example:1"])
def test_a_flag_of_the_command_before_it_is_not_called_unknown(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = f"unrecognized arguments: {flag}; {flag.partition('=')[0]} stands behind the command"
    assert said in refused(capsys, flag, "status")


@pytest.mark.parametrize(
    "argv", [["--hub", "http://hub.example:1", "status"], ["-q", "--state", "there", "jobs"], ["-o", "x.mp4", "submit"]]
)
def test_a_flag_before_its_command_is_reported(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flag, value = argv[-3:-1]
    said = f"there is no command {value!r}; if it belongs to {flag}: a command's flags stand behind it"
    assert said in refused(capsys, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["jobs", "--json", "--nonsense"],
        ["jbos", "--json"],
        ["cancel", "--json"],
        ["-q", "-v", "jobs", "--json"],
        ["--json"],
        *(["cost", "--json", f"--since={day}"] for day in ("yesterday", "2026-13-01", "-3d")),
    ],
)
def test_wrong_usage_is_json_on_request(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(argv)
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert json.loads(said.err).keys() == {"error", "code"}
    assert json.loads(said.err)["code"] == "usage"


def test_an_error_is_json_on_request(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAKESTREAM_LANG", "zh")
    where = Path("nowhere").absolute()
    assert main.main(["jobs", "--json", "--state", "nowhere"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err) == {
        "error": f"no daemon runs for {where}; start one with `wakestream daemon --state {where}`",
        "code": "daemon_unreachable",
    }
    monkeypatch.setenv("WAKESTREAM_DAEMON", "nowhere")
    assert main.main(["jobs", "--json"]) == 4
    here = "start one with `wakestream daemon`, or name the folder of a running one with --state"
    assert json.loads(capsys.readouterr().err)["error"] == f"no daemon runs for {where}; {here}"


def test_an_unusable_log_is_reported_as_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["replay", "no-such-log.jsonl", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.err)["code"] == "unusable"
    assert all(json.loads(line) for line in said.out.splitlines())


def settled(*argv: str) -> argparse.Namespace:
    parser = main.parser_of(("jobs",))
    args = parser.parse_args(argv)
    parsing.settle(parser, args)
    return args


@pytest.mark.parametrize(
    ("argv", "level"),
    [
        (["jobs", "-v"], "DEBUG"),
        (["--verbose", "jobs"], "DEBUG"),
        (["jobs", "-q"], "ERROR"),
        (["-q", "jobs", "--log-level", "INFO"], "INFO"),
        (["jobs"], None),
    ],
)
def test_quiet_and_verbose_are_log_levels(argv: list[str], level: str | None) -> None:
    assert getattr(settled(*argv), "log_level", None) == level


def test_the_language_can_be_chosen_and_json_stays_english() -> None:
    parsing.speak(("jobs", "--lang", "zh"))
    assert chosen() == "zh"
    parsing.speak(("jobs", "--lang", "zh", "--json"))
    assert chosen() == "en"


def test_the_final_message_is_in_the_chosen_language(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["jobs", "--lang", "zh", "--state", "nowhere"]) == 4
    assert capsys.readouterr().err.startswith("wakestream: 无法连接后台程序")


def sentences(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All that a help says in words, those of the commands within it, too."""
    yield parser.description or ""
    for group in parser._action_groups:
        yield from (group.title or "", group.description or "")
    for action in parser._actions:
        yield action.help or ""
        if isinstance(action, argparse._SubParsersAction):
            yield from (choice.help or "" for choice in action._choices_actions)
            for inner in action.choices.values():
                yield from sentences(inner)


def ends() -> Iterator[str]:
    """The sentences below the arguments, in tables the second column."""
    for command in (main.load(name) for name in main.COMMANDS):
        yield from getattr(command, "EXITS", "").splitlines()
        yield from (re.split(r"\s{2,}", line)[-1] for line in getattr(command, "LANGUAGE", "").splitlines())
    yield from ("examples:", exit_codes.HELP, main.AFTER_HELP.splitlines()[0])


def test_every_help_text_has_a_chinese_one() -> None:
    said = {*sentences(main.parser_of()), *ends()} - {"", argparse.SUPPRESS, "TLS"}
    assert sorted(said - SENTENCES.keys()) == []
    assert sorted(SENTENCES.keys() - said) == []


@pytest.mark.parametrize("name", main.COMMANDS)
def test_chinese_help_has_the_same_flags_and_examples_and_both_fit_a_narrow_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    english = shown(capsys, name, "--help")
    chinese = shown(capsys, name, "--help", "--lang", "zh")
    assert chinese.startswith(f"用法：wakestream {name} [选项]")
    assert re.findall(r"^  (--?\w\S*)", chinese, re.MULTILINE) == re.findall(r"^  (--?\w\S*)", english, re.MULTILINE)
    counts = []
    for text, options, examples in ((english, "\noptions:", "\nexamples:"), (chinese, "\n选项:", "\n示例：")):
        arguments = text[text.index(options) : text.index(examples)].partition("\nEXPR ")[0]
        assert [line for line in arguments.splitlines() if width(line) > 60] == []
        counts.append(text[text.index(examples) :].count("wakestream "))
    assert counts[0] == counts[1]


NEAREST = "是指 'issue' 吗；" if sys.version_info >= (3, 15) else ""
"""What Python adds to a wrong choice."""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["jobs", "--lang=zh", "--nonsense"], "用法有误：无法识别的参数：--nonsense"),
        (["--lang", "zh", "jobs", "--al"], "用法有误：无法识别的参数：--al；您是指 --all 吗？"),
        (["--lang", "zh", "jbos"], "没有命令 jbos；您是指 jobs 吗？"),
        (["gpu", "--lang", "zh"], "用法有误：缺少参数：ACTION；可选：stop, keep, remove"),
        (["gpu"], "the following arguments are required: ACTION; choose from stop, keep, remove"),
        (["submit", "--lang=zh", "--priority"], "用法有误：参数 --priority：需要一个值"),
        (["gpu", "keep", "a", "--for", "x", "--lang=zh"], "用法有误：参数 --for："),
        (["license", "--lang=zh", "isue"], f"用法有误：参数 ACTION：没有 'isue'；{NEAREST}可选：'issue', "),
        (["jobs", "--lang", "zh", "--nonsense"], "用法：wakestream jobs [选项]"),
        (["--log-level", "INFO", "submitt"], "did you mean 'submit'?"),
        *(
            ([name, "--log-level", "loud"], "--log-level: invalid choice: 'LOUD'")
            for name in ("demo", "license", "hub")
        ),
        ([], "--help"),
        (["submit", "--priority", "1000"], "'1000' is not a whole number from -100 to 100"),
        (["submit", "--detach", "--foreground"], "not allowed with argument"),
        (["cost", "--since=yesterday"], "is no day; write 2026-01-31, or 30d"),
    ],
)
def test_wrong_usage_is_reported_in_the_chosen_language(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "prog", "meant"),
    [
        (["jobs", "--al"], "wakestream jobs", "--all"),
        (["license", "issue", "--role", "client", "--nte=x"], "wakestream license issue", "--note"),
        (["status", "--record", "DIR"], "wakestream status", None),
        *(
            (["submit", flag], "wakestream submit", "--detach")
            for flag in ("--background", "--bg", "--no-wait", "--async")
        ),
    ],
)
def test_an_unknown_flag_is_reported_with_the_nearest_one(
    argv: list[str], prog: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *argv)
    assert said.startswith(f"usage: {prog} [options]")
    assert f"{prog}: error: unrecognized arguments: " in said
    assert f"did you mean {meant}?" in said if meant else "did you mean" not in said


def test_common_flags_are_accepted_after_an_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--quiet" in shown(capsys, "license", "issue", "-q", "--lang", "zh", "--help")


def lines_of(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, object]]:
    main.main(list(argv))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_json_is_valid_for_names_that_are_not_unicode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    log = folder / "r\udce9.jsonl"
    shutil.copy(LOGS / "system" / "daemon.jsonl", log)
    (found,) = lines_of(capsys, "replay", str(log), "--json")
    assert (found["result"], found["log"]) == ("same", [f"{tmp_path}/caf\\udce9/r\\udce9.jsonl"])
    (found,) = lines_of(capsys, "replay", str(folder / "none\udce9"), "--json")
    assert found["result"] == "unusable"
    (found, *_) = lines_of(capsys, "replay", str(log), "--json", "--reorder")
    assert found["reorder"] is True
    (*_, found) = lines_of(capsys, "shrink", str(log), "--json", "--fails-if", "outcome=done")
    assert "caf\\udce9" in str(found["written"])
    disk = next(one for one in lines_of(capsys, "doctor", "--json", "--state", "d") if one["check"] == "disk")
    assert "caf\\udce9" in str(disk["says"])
