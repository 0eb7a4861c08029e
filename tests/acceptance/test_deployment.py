"""The files in deploy/ say what the programs understand, and what they start does start."""

import argparse
import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from wakestream.adapters.cli.commands.hub import _OF_HUB
from wakestream.adapters.cli.main import COMMANDS, parser_of
from wakestream.adapters.config import settings
from wakestream.adapters.config.addresses import hub_urls
from wakestream.adapters.disk.postgres import checked_address
from wakestream.adapters.hub.licenses import LicenseBook

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEMD = DEPLOY / "systemd"
PROGRAM = Path(sys.executable).with_name("wakestream.exe" if os.name == "nt" else "wakestream")
UNITS = (
    "wakestream-hub.service", "wakestream-monitor@.service", "wakestream-worker.service", "wakestream-depot.service",
)  # fmt: skip
USER_UNIT = "user/wakestream-daemon.service"
FLAGS = dict(zip(UNITS, ("hub", "monitor", "worker", "depot"), strict=True))
TASK = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


def lines(unit: str) -> list[str]:
    """A unit's lines, those that go on joined, without what is said about them."""
    text = (SYSTEMD / unit).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def variables(file: Path) -> dict[str, str]:
    """An environment file as systemd and compose read it."""
    rows = [row for row in file.read_text(encoding="utf-8").splitlines() if row and not row.startswith("#")]
    return dict(row.split("=", 1) for row in rows)


def started(unit: str, state: Path) -> list[str]:
    """What the unit starts: its arguments, with what systemd and the environment file put in."""
    (line,) = (line for line in lines(unit) if line.startswith("ExecStart="))
    given = variables(SYSTEMD / f"{FLAGS[unit]}.env") if unit in FLAGS else {}
    for sign, value in {
        "%S": state.as_posix(),
        "%i": "studio",
        "%d": f"{state.as_posix()}/keys",
        "%h": "/home/me",
    }.items():
        line = line.replace(sign, value)
    words = shlex.split(line.removeprefix("ExecStart="))
    return [part for word in words for part in (given[word[1:]].split() if word.startswith("$") else [word])]


def understood(arguments: list[str]) -> argparse.Namespace:
    return parser_of((arguments[0],)).parse_args(arguments)


COMPOSE = ("compose.yaml", "compose-hubs.yaml")


def composed(file: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / file).read_text(encoding="utf-8"))
    return document


SERVICES = [(file, name) for file in COMPOSE for name in composed(file)["services"] if name != "db"]
"""All services but the one of another project."""


@pytest.mark.parametrize("unit", [*UNITS, USER_UNIT])
def test_a_unit_starts_a_program_with_flags_that_it_has(unit: str, tmp_path: Path) -> None:
    program, *arguments = started(unit, tmp_path)
    assert program.endswith("/.venv/bin/wakestream")
    assert arguments[0] in COMMANDS
    assert understood(arguments).command == arguments[0]
    key = any(line.startswith("LoadCredential=key:") for line in lines(unit))
    assert key == any(part.endswith("/keys/key") for part in arguments)


@pytest.mark.parametrize("unit", [*UNITS, USER_UNIT])
def test_a_unit_restarts_except_after_permanent_errors(unit: str) -> None:
    assert {"Restart=on-failure", "RestartPreventExitStatus=2", "StartLimitIntervalSec=0"} <= set(lines(unit))


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_owns_only_its_state_folder(unit: str) -> None:
    said = set(lines(unit))
    assert {"User=wakestream", "NoNewPrivileges=true", "CapabilityBoundingSet=", "ProtectSystem=strict"} <= said
    assert {"ProtectHome=true", "StateDirectoryMode=0700", f"StateDirectory=wakestream/{FLAGS[unit]}"} <= said
    account = (SYSTEMD / "wakestream.sysusers").read_text(encoding="utf-8")
    assert re.search(r"^u wakestream ", account, re.MULTILINE)


@pytest.mark.parametrize("unit", [*UNITS, USER_UNIT])
def test_systemd_accepts_every_unit(unit: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    here = tmp_path / Path(unit).name
    text = (SYSTEMD / unit).read_text(encoding="utf-8")
    here.write_text(re.sub(r"(?<=^ExecStart=)\S+", str(PROGRAM), text, flags=re.MULTILINE), encoding="utf-8")
    who = ["--user"] if unit == USER_UNIT else []
    (tmp_path / "run").mkdir()
    done = subprocess.run(
        [analyze, *who, "--man=no", "--recursive-errors=no", "verify", str(here)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not work here: " + done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", sorted(SYSTEMD.glob("*.env")), ids=lambda path: path.stem)
def test_an_environment_file_holds_settings_that_there_are_and_no_secret(file: Path) -> None:
    commented = re.sub(r"^#(?=[A-Z_]+=)", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = set(re.findall(r"^([A-Z_]+)=", commented, re.MULTILINE))
    known = {one.variable for one in settings._ALL} | {f"WAKESTREAM_{file.stem.upper()}_FLAGS"}
    assert names <= known
    given = variables(file)
    assert not given.get("HEYGEM_API_SECRET")
    found = settings.load({}, environment=given, folder=DEPLOY)
    assert found.hub_url or file.stem == "hub"
    assert found.engine_command or file.stem != "worker"
    assert found.power_inspect or file.stem != "monitor"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Keys as `LoadCredential` puts them there, of the hub in this state folder."""
    book = LicenseBook(tmp_path / "wakestream" / "hub")
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "key").write_text(book.issue("worker", "", 0.0)[1], encoding="utf-8")
    return folder


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate(timeout=100)


def at_a_free_port(arguments: list[str]) -> list[str]:
    """The same, at ports that are free."""
    return [re.sub(r"^(127\.0\.0\.1|0\.0\.0\.0):\d+$", "127.0.0.1:0", each) for each in arguments]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("unit", [UNITS[0], *UNITS[2:]])
def test_a_unit_listens_until_it_is_stopped(unit: str, tmp_path: Path, running: list[subprocess.Popen[str]]) -> None:
    _, *arguments = started(unit, tmp_path)
    file = variables(SYSTEMD / f"{FLAGS[unit]}.env")
    extra = {name: value for name, value in file.items() if not name.startswith("WAKESTREAM_TLS")}
    extra |= {"HEYGEM_API_SECRET": "made-up-for-the-test", "API_SERVER_URL": "http://127.0.0.1:9"}
    program = subprocess.Popen(
        [str(PROGRAM), *at_a_free_port(arguments), "--exit-with-stdin"], cwd=tmp_path,
        env={**os.environ, **extra}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    running.append(program)
    assert program.stdout is not None
    assert program.stdout.readline().startswith(f"wakestream {FLAGS[unit]} listening on ")
    _, said = program.communicate(timeout=100)
    assert program.returncode == 0, said


@pytest.mark.parametrize(("file", "service"), SERVICES)
def test_a_container_runs_a_program_with_flags_that_it_has_and_no_rights_that_it_need_not_have(
    file: str, service: str
) -> None:
    found = composed(file)["services"][service]
    words = [str(word) for word in found["command"]]
    assert understood(words).command == ("hub" if service == "front" else service.partition("-")[0])
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("file", COMPOSE)
def test_the_containers_share_keys_and_volumes_that_there_are(file: str) -> None:
    document = composed(file)
    for name, service in document["services"].items():
        assert set(service.get("secrets", [])) <= set(document["secrets"])
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(document["volumes"])
        assert set(service.get("depends_on", [])) <= set(document["services"])
        build = service.get("build")
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve().is_file() if build else name == "db"


def in_cluster() -> dict[tuple[str, str], Any]:
    """The objects of the Kubernetes manifest by kind and name."""
    found = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_both_hubs_of_a_set_up_have_one_journal_and_one_list_of_addresses_and_a_folder_each() -> None:
    hubs = [composed("compose-hubs.yaml")["services"][name] for name in ("hub-a", "hub-b")]
    assert hubs[0]["command"] == hubs[1]["command"]
    journal = {hub["environment"]["WAKESTREAM_JOURNAL"] for hub in hubs}
    assert [checked_address(address) for address in journal] == [*journal]
    assert hubs[0]["volumes"] != hubs[1]["volumes"]
    assert hub_urls(understood([*map(str, hubs[0]["command"])]).public).count(",") == 1
    given = (SYSTEMD / "hub.env").read_text(encoding="utf-8")
    (address,) = re.findall(r"^#WAKESTREAM_JOURNAL=(.+)$", given, re.MULTILINE)
    assert checked_address(address) == address


def test_a_pod_runs_a_hub_with_flags_that_it_has_and_only_the_leader_gets_the_service() -> None:
    found = in_cluster()
    hubs = found["StatefulSet", "wakestream-hub"]["spec"]
    (hub,) = hubs["template"]["spec"]["containers"]
    args = understood([str(word) for word in hub["args"]])
    ports = {port["name"]: port["containerPort"] for port in hub["ports"]}
    assert (args.listen, args.metrics) == (f"0.0.0.0:{ports['hub']}", f"0.0.0.0:{ports['metrics']}")
    env = {one["name"]: one for one in hub["env"]}
    assert checked_address(env["WAKESTREAM_JOURNAL"]["value"])
    assert "secretKeyRef" in env["PGPASSWORD"]["valueFrom"]
    ready, alive = hub["readinessProbe"]["httpGet"], hub["livenessProbe"]["httpGet"]
    assert (ready["path"], ready["port"], alive["path"], alive["port"]) == ("/", "hub", "/metrics", "metrics")
    assert ready["scheme"] == "HTTPS", "it has a certificate"
    mounted = {one["name"]: one["mountPath"] for one in hub["volumeMounts"]}
    assert str(args.state).startswith(mounted["state"])
    assert str(args.tls_cert).startswith(mounted["tls"])
    rights = hub["securityContext"]
    assert (rights["readOnlyRootFilesystem"], rights["capabilities"]) == (True, {"drop": ["ALL"]})
    assert hubs["replicas"] == 2
    # A hub that stands by is not ready, so neither start nor upgrade may wait for that.
    assert (hubs["podManagementPolicy"], hubs["updateStrategy"]) == ("Parallel", {"type": "OnDelete"})
    each, leader = (found["Service", name]["spec"] for name in (hubs["serviceName"], "wakestream-hub"))
    assert (each["clusterIP"], each["publishNotReadyAddresses"]) == ("None", True)
    assert "publishNotReadyAddresses" not in leader
    assert each["selector"] == leader["selector"] == hubs["template"]["metadata"]["labels"]


def test_fronts_have_the_addresses_of_both_hubs_a_key_and_no_setting_of_a_hub() -> None:
    compose, (pod,) = (
        composed("compose-hubs.yaml"),
        in_cluster()["Deployment", "wakestream-front"]["spec"]["template"]["spec"]["containers"],
    )
    front, hosts = compose["services"]["front"], ("hub-a", "hub-b")
    found = [understood([*map(str, words)]) for words in (front["command"], pod["args"], drop_in())]
    assert [args.front for args in found] == [hub_urls(args.front) for args in found]
    assert found[0].front == ",".join(f"ws://{name}:8765/dsp" for name in hosts)
    assert set(hosts) <= set(compose["services"])
    hubs = in_cluster()["StatefulSet", "wakestream-hub"]
    name, service = hubs["metadata"]["name"], hubs["spec"]["serviceName"]
    assert found[1].front == ",".join(f"wss://{name}-{n}.{service}:8765/dsp" for n in range(hubs["spec"]["replicas"]))
    for args in found:
        assert not [name for name in _OF_HUB if getattr(args, name)]
    assert found[0].key_file == f"/run/secrets/{front['secrets'][0]}"
    assert not front["environment"]
    assert [one["name"] for one in pod["env"] if "secretKeyRef" in one["valueFrom"]] == ["WAKESTREAM_KEY"]
    ports = {port["name"]: port["containerPort"] for port in pod["ports"]}
    assert (found[1].listen, found[1].metrics) == (f"0.0.0.0:{ports['front']}", f"0.0.0.0:{ports['metrics']}")
    assert pod["readinessProbe"]["httpGet"] == {"path": "/", "port": "front", "scheme": "HTTPS"}


def drop_in() -> list[str]:
    """What the unit of a hub starts with the file that makes it a front."""
    said = lines("front.conf")
    assert "LoadCredential=key:/etc/wakestream/front.key" in said
    first, then = (line.removeprefix("ExecStart=") for line in said if line.startswith("ExecStart="))
    assert not first, "it takes the place of the command that the unit has"
    program, *arguments = shlex.split(then)
    assert [program, arguments.pop()] == [started(UNITS[0], DEPLOY)[0], "$WAKESTREAM_HUB_FLAGS"]
    return arguments


def test_the_image_runs_as_an_unprivileged_user_without_secrets_and_has_a_health_check() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = text.split("FROM ")
    assert len(stages) == 3
    assert re.search(r"^USER 10001:10001$", stages[2], re.MULTILINE)
    assert "HEALTHCHECK" in stages[2]
    assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD", text.replace("HEALTHCHECK", ""))
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for word in line.split()[:-1]}
    ignored = (DEPLOY.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((DEPLOY.parent / name).exists() for name in copied)


def test_the_scheduled_task_restarts_the_daemon_after_a_failure() -> None:
    task = ElementTree.parse(DEPLOY / "windows" / "wakestream-daemon.xml").getroot()  # noqa: S314 - our own file
    assert understood((task.findtext(".//t:Arguments", "", TASK)).split()).command == "daemon"
    assert task.findtext(".//t:ExecutionTimeLimit", "", TASK) == "PT0S"
    assert task.findtext(".//t:LogonTrigger/t:Repetition/t:Interval", "", TASK) == "PT5M"
    assert task.findtext(".//t:MultipleInstancesPolicy", "", TASK) == "IgnoreNew"


def test_the_scheduled_task_is_of_one_user_and_can_be_read_by_schtasks() -> None:
    text = (DEPLOY / "windows" / "wakestream-daemon.xml").read_bytes()
    assert text.startswith(b'<?xml version="1.0"?>')  # it refuses a declared UTF-8
    assert text.isascii()
    task = ElementTree.fromstring(text)  # noqa: S314 - our own file
    trigger, principal = (
        task.findtext(".//t:LogonTrigger/t:UserId", "", TASK),
        task.findtext(".//t:Principal/t:UserId", "", TASK),
    )
    assert trigger == principal != ""


def test_the_launch_agent_restarts_the_daemon_after_a_failure() -> None:
    agent = plistlib.loads((DEPLOY / "macos" / "wakestream.daemon.plist").read_bytes())
    assert understood(agent["ProgramArguments"][1:]).command == "daemon"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
