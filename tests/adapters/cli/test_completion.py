"""The script of `wakestream completion` in the shells that are here."""

import shutil
import subprocess
from pathlib import Path

import pytest

from wakestream.adapters.cli import main
from wakestream.adapters.cli.commands.completion import SHELLS


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(["completion", shell]) == 0
    return capsys.readouterr().out


def offered(words: list[str], completion: Path, folder: Path) -> list[str]:
    """What bash offers for the last of these words."""
    asking = f"""
        source {completion}
        function_name=$(complete -p wakestream | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=({" ".join(repr(word) for word in words)})
        COMP_CWORD={len(words) - 1}
        $function_name
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = shutil.which("bash")
    assert bash is not None
    command = [bash, "--norc", "--noprofile", "-c", asking]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.split()


@pytest.fixture
def completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    path = tmp_path / "wakestream.bash"
    path.write_text(script("bash", capsys), encoding="utf-8")
    return path


def test_bash_completes_commands_flags_choices_and_files(completion: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    (folder / "night").mkdir(parents=True)
    (folder / "notes.jsonl").touch()

    def offers(*words: str) -> list[str]:
        return offered(["wakestream", *words], completion, folder)

    assert set(offers("")) >= set(main.COMMANDS)
    assert offers("sub") == ["submit"]
    assert {"--json", "--all", "--state"} <= set(offers("jobs", "--"))
    assert offers("monitor", "--orphans", "") == ["adopt", "stop", "report"]
    assert offers("license", "rev") == ["revoke"]
    assert offers("help", "job") == ["jobs"]
    assert set(offers("replay", "n")) == {"night", "notes.jsonl"}
    assert offers("hub", "--state", "n") == ["night"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shells_script_completes_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [name for name in main.COMMANDS if name not in text] == []


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_shells_accept_their_script(shell: str, check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    path = tmp_path / "script"
    path.write_text(script(shell, capsys), encoding="utf-8")
    subprocess.run([program, check, str(path)], check=True)
