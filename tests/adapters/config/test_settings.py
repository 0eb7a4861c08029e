import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.config.settings import WAITS, Settings, SettingsError, load
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.policy import Policy

KEY = "ws_client_abcdefghijklmnopqrstuvwxyz0123456789"


def loaded(folder: Path, flags: dict[str, object] | None = None, **environment: str) -> Settings:
    return load(flags or {}, environment=environment, folder=folder)


def refused(folder: Path, flags: dict[str, object] | None = None, **environment: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        loaded(folder, flags, **environment)
    assert refusal.value.code == "settings"
    return str(refusal.value)


def test_without_settings_the_defaults_apply(tmp_path: Path) -> None:
    assert loaded(tmp_path) == Settings()


def test_flags_win_over_environment_over_env_file_over_toml(tmp_path: Path) -> None:
    sources = {
        "flag": {"hub": "http://flag"},
        "environment": "http://environment",
        ".env": "API_SERVER_URL=http://envfile\n",
        "toml": 'hub = "http://toml"\n',
    }
    (tmp_path / "wakestream.toml").write_text(sources["toml"])
    assert loaded(tmp_path).hub_url == "ws://toml/dsp"
    (tmp_path / ".env").write_text(sources[".env"])
    assert loaded(tmp_path).hub_url == "ws://envfile/dsp"
    assert loaded(tmp_path, API_SERVER_URL=sources["environment"]).hub_url == "ws://environment/dsp"
    assert loaded(tmp_path, sources["flag"], API_SERVER_URL=sources["environment"]).hub_url == "ws://flag/dsp"


def test_our_name_for_the_hub_comes_before_the_one_of_deployed_programs_unless_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_SERVER_URL=http://old\nWAKESTREAM_HUB=http://a, b.example:1\n")
    assert loaded(tmp_path).hub_url == "ws://a/dsp,wss://b.example:1/dsp"
    assert loaded(tmp_path, WAKESTREAM_HUB="", API_SERVER_URL="http://old").hub_url == "ws://old/dsp"
    said = refused(tmp_path, WAKESTREAM_HUB="http://a,ftp://b,http://c")
    assert said.startswith("the environment variable WAKESTREAM_HUB has a wrong address 2, which begins with ftp://;")


EVERYDAY = {
    "idle_after": ("10min", 600.0), "gpu": ("studio", "studio"), "listen": ("127.0.0.1:9000", ("127.0.0.1", 9000)),
    "public_url": ("gpu.example", "http://gpu.example:8383"), "engine": ("command", "command"), "slots": ("2", 2),
    "label": ("memory=24GB zone=eu cuda", {"memory": "24GB", "zone": "eu", "cuda": ""}),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYDAY)
def test_monitor_and_worker_flags_can_be_set_in_file_or_environment(name: str, tmp_path: Path) -> None:
    written, meant = EVERYDAY[name]
    assert getattr(loaded(tmp_path, **{f"WAKESTREAM_{name.upper()}": written}), name) == meant
    (tmp_path / "wakestream.toml").write_text(f'{name} = "{written}"\n')
    assert getattr(loaded(tmp_path), name) == meant
    assert getattr(loaded(tmp_path, {name: None}), name) == meant
    assert f"({name})" in refused_text(tmp_path, f"{name} = [1]\n")


def test_the_name_of_an_engine_stands_in_its_table(tmp_path: Path) -> None:
    (tmp_path / "wakestream.toml").write_text('[engine]\nname = "command"\ncommand = ["run", "{output}"]\n')
    found = loaded(tmp_path)
    assert (found.engine, found.engine_command) == ("command", ("run", "{output}"))


def refused_text(folder: Path, toml: str) -> str:
    (folder / "wakestream.toml").write_text(toml)
    return refused(folder)


def test_flags_that_were_not_given_and_arguments_that_are_no_settings_are_ignored(tmp_path: Path) -> None:
    flags = {"hub": None, "video": Path("a.mp4"), "key": "never from a flag"}
    assert loaded(tmp_path, flags, API_SERVER_URL="") == Settings()


def test_the_env_file_that_users_already_have_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# mine\nexport HEYGEM_SERVER_URL='gpu.example.com'\nHEYGEM_API_SECRET=\"pa$HOME word\"\nOTHER=1\n"
    )
    found = loaded(tmp_path)
    assert found.worker_url == "http://gpu.example.com:8383"
    assert found.api_secret == "pa$HOME word"


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (".env", b"A=1\n\n# note\nthis is not a setting\n", "line 4"),
        (".env", b"A=1\nNAME\n", "line 2"),
        (".env", b"A=1\r\nB=\xff\xfe\r\n", "line 2: not UTF-8"),
        (".env", b"A=\0\0\0", "binary"),
        (".env", b"A='no end\n", "line 1"),
        (".env", b"\nHEYGEM_SERVER_URL=ftp://x\n", "line 2 (HEYGEM_SERVER_URL) "),
        ("config.dat", b"# one\nAPI_SERVER_URL=ftp://hub\n", "line 2 (API_SERVER_URL)"),
        ("wakestream.toml", b'hub = "http://h"\nonline_timout = 3\n', "line 2 (online_timout): there is no setting"),
        ("wakestream.toml", b"online_timout = 3\n", "did you mean 'online_timeout'?"),
        ("wakestream.toml", b'api_secret = "hunter22"\n', "HEYGEM_API_SECRET"),
        ("wakestream.toml", b'[webhook]\nsecret = "hunter22"\n', "WAKESTREAM_WEBHOOK_SECRET="),
        ("wakestream.toml", b"hub = \n", "line 1"),
        ("wakestream.toml", b"record = 3\n", "line 1 (record) "),
        (".license", b"", "contains no key"),
        (".license", b"{", "broken JSON"),
        (".license", b'{"license_key":' + DEEP.encode(), "broken JSON"),
        (".license", b'{"key": "hunter22"}', 'has no text for "license_key"'),
        (".license", b'{"license_key": 3}', 'has no text for "license_key"'),
        (".license", b"hunter22 words", "not a key"),
        (".license", b"hunter22" * 65, "not a key"),
    ],
)
def test_what_cannot_be_read_in_a_file_is_named_with_its_place_and_no_secret_is_shown(
    tmp_path: Path, file: str, content: bytes, words: str
) -> None:
    (tmp_path / file).write_bytes(content)
    message = refused(tmp_path)
    assert message.startswith(str(tmp_path / file))
    assert words in message
    assert "hunter22" not in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("hub", "ftp://x", "--hub begins with"),
        ("worker", "ftp://x", "--worker-url "),
        ("webhook_url", "nonsense", "--webhook "),
        ("power_start", "a 'b", "--start is not a command line (No closing quotation); write for example"),
        ("power_timeout", "soon", "--call-timeout "),
        ("online_timeout", "soon", "--online-timeout "),
        ("engine_command", DEEP, "nested too deeply"),
        ("key_file", "none", "does not exist"),
        ("key_file", "x" * 5000, "x cannot be read"),
        ("API_SERVER_URL", "ftp://x", "the environment variable API_SERVER_URL begins with"),
        ("HEYGEM_API_SECRET", "hunter22\r\nX: y", "the environment variable HEYGEM_API_SECRET "),
        ("WAKESTREAM_POWER_START", "[1", "is not a command line (Expecting"),
        ("WAKESTREAM_METRICS", "9464", "WAKESTREAM_METRICS '9464' is not HOST:PORT"),
        ("WAKESTREAM_TRACE", "perhaps", "write true or false"),
        ("WAKESTREAM_LOG_FORMAT", "xml", "write one of text, json"),
        ("WAKESTREAM_WEBHOOK_URL", "shop.example/done", "WAKESTREAM_WEBHOOK_URL lacks scheme or host"),
        ("WAKESTREAM_WEBHOOK_URL", "ftp://shop.example/", "http:// or https://"),
        ("WAKESTREAM_WEBHOOK_URL", "https://me:hunter22@shop.example/", "user name or a password"),
        ("WAKESTREAM_WEBHOOK_URL", "https://shop.example/?to=ä&t=hunter22", "ASCII"),
    ],
)
def test_a_value_that_is_wrong_is_named_by_its_flag_or_variable_and_no_secret_is_shown(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    message = refused(tmp_path, **{name: value}) if name.isupper() else refused(tmp_path, {name: value})
    assert words in message
    assert "hunter22" not in message


def test_an_env_file_that_is_a_folder_or_far_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert "is a folder" in refused(tmp_path)
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "more than" in refused(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfAPI_SERVER_URL=http://h\r\n")
    assert loaded(tmp_path).hub_url == "ws://h/dsp"


def test_a_log_level_is_taken_in_any_case_and_checked(tmp_path: Path) -> None:
    assert loaded(tmp_path, WAKESTREAM_LOG_LEVEL="debug").log_level == "DEBUG"
    assert "write one of DEBUG" in refused(tmp_path, WAKESTREAM_LOG_LEVEL="loud")


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f'{{"license_key": "{KEY}"}}'])
def test_a_license_holds_a_bare_key_or_json(tmp_path: Path, content: str) -> None:
    (tmp_path / ".license").write_text(content)
    assert loaded(tmp_path).key == KEY


def test_the_key_of_a_stronger_source_wins(tmp_path: Path) -> None:
    (tmp_path / ".license").write_text("from-license")
    assert loaded(tmp_path).key == "from-license"
    (tmp_path / "other").write_text("from-file")
    (tmp_path / "wakestream.toml").write_text(f"key_file = '{tmp_path / 'other'}'\n")
    assert loaded(tmp_path).key == "from-file"
    assert loaded(tmp_path, WAKESTREAM_KEY="from-environment").key == "from-environment"
    assert loaded(tmp_path, {"key_file": str(tmp_path / "other")}, WAKESTREAM_KEY="e").key == "from-file"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
def test_a_key_file_that_everyone_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / ".license"
    file.write_text(KEY)
    file.chmod(0o644)
    (warning,) = loaded(tmp_path).warnings
    assert "chmod 600" in warning
    file.chmod(0o600)
    assert loaded(tmp_path).warnings == ()


def test_secrets_are_never_shown_by_repr(tmp_path: Path) -> None:
    found = loaded(tmp_path, WAKESTREAM_KEY=KEY, HEYGEM_API_SECRET="hunter22")
    assert KEY not in repr(found)
    assert "hunter22" not in repr(found)
    assert set(found.secrets) == {KEY, "hunter22"}
    assert f"Bearer {found.api_secret}" == "Bearer hunter22"


def test_every_wait_of_the_policy_can_be_set() -> None:
    numbers = {
        field.name for field in dataclasses.fields(Policy) if not isinstance(getattr(Policy(), field.name), Backoff)
    }
    assert set(WAITS) == numbers - {"straight"}  # follows from the worker's address


def test_waits_set_by_the_user_replace_those_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "wakestream.toml").write_text("reply_timeout = 7\ntotal_timeout = '1h'\n")
    found = loaded(tmp_path, {"online_timeout": "30min"}, WAKESTREAM_POLL_EVERY="0.5")
    policy = found.policy(Policy(hub=12.0))
    assert (policy.reply, policy.total, policy.online, policy.poll_every, policy.hub) == (7, 3600, 1800, 0.5, 12)
    assert policy.ready == Policy().ready


@pytest.mark.parametrize("rubbish", ["", "soon", "-1", "0", "1w", "nan", "inf", "1e3", True, None, [1]])
def test_an_invalid_duration_is_refused(rubbish: object) -> None:
    with pytest.raises(ValueError, match=r"must be longer|is not a time"):
        seconds(rubbish)


def test_commands_are_argument_lists_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "wakestream.toml").write_text(
        '[power]\nstart = ["vm", "start it"]\nstop = "vm stop"\ntimeout = "2min"\n'
    )
    found = loaded(tmp_path, WAKESTREAM_POWER_INSPECT='["vm", "look"]')
    assert found.power_start == ("vm", "start it")
    assert found.power_stop == ("vm", "stop")
    assert found.power_inspect == ("vm", "look")
    assert found.power_timeout == 120
    assert "command line" in refused(tmp_path, WAKESTREAM_POWER_START="[]")
    assert "WAKESTREAM_POWER_START" in refused(tmp_path, WAKESTREAM_POWER_START='["')


def test_a_missing_required_setting_is_named_with_how_to_set_it() -> None:
    with pytest.raises(SettingsError, match="WAKESTREAM_HUB"):
        Settings().needs_hub()
    with pytest.raises(SettingsError, match="--key-file"):
        Settings().needs_key()


def test_metrics_traces_and_json_logs_are_set_in_every_place(tmp_path: Path) -> None:
    (tmp_path / "wakestream.toml").write_text('metrics = "127.0.0.1:9464"\ntrace = true\nlog_format = "JSON"\n')
    found = loaded(tmp_path)
    assert (found.metrics, found.trace, found.log_format) == (("127.0.0.1", 9464), True, "json")
    found = loaded(tmp_path, {"metrics": "[::1]:0"}, WAKESTREAM_TRACE="0", WAKESTREAM_LOG_FORMAT="text")
    assert (found.metrics, found.trace, found.log_format) == (("::1", 0), False, "text")


def test_the_webhook_and_its_secret_are_secrets(tmp_path: Path) -> None:
    (tmp_path / "wakestream.toml").write_text('[webhook]\nurl = "https://shop.example/done?token=abc"\n')
    found = loaded(tmp_path, WAKESTREAM_WEBHOOK_SECRET="hunter22")
    assert found.webhook_url == "https://shop.example/done?token=abc"
    assert set(found.secrets) == {"https://shop.example/done?token=abc", "hunter22"}
    assert "abc" not in repr(found)
    assert "hunter22" not in repr(found)


Files = Mapping[str, str]
NONE: Files = {}
AtHome = Callable[..., Settings]


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AtHome:
    """Tells what is found with files in the user's own folder and in the current one."""

    def found(own: Files, here: Files = NONE, flags: Mapping[str, object] = NONE, **more: str) -> Settings:
        for name, given in (("home", own), ("here", here)):
            (tmp_path / name).mkdir(exist_ok=True)
            for file, text in given.items():
                (tmp_path / name / file).write_text(text)
                (tmp_path / name / file).chmod(0o600)
        monkeypatch.chdir(tmp_path / "here")
        return load(flags, environment={"WAKESTREAM_CONFIG": str(tmp_path / "home"), **more})

    return found


def test_a_users_own_settings_are_found_from_every_folder(at_home: AtHome) -> None:
    env = "API_SERVER_URL=http://hub:1\nHEYGEM_API_SECRET=s\n"
    found = at_home({".env": env, "wakestream.toml": "trace = true\n", ".license": KEY})
    assert (found.hub_url, found.api_secret, found.trace, found.key) == ("ws://hub:1/dsp", "s", True, KEY)


def test_a_path_in_the_users_own_settings_is_one_from_there(at_home: AtHome, tmp_path: Path) -> None:
    own = {
        "wakestream.toml": 'key_file = "pc.key"\nca = "hub.pem"\n',
        ".env": "WAKESTREAM_RECORD=/logs\n",
        "pc.key": KEY,
    }
    found = at_home(own, {"wakestream.toml": 'log_file = "here.log"\n'})
    assert (found.key, found.ca) == (KEY, tmp_path / "home" / "hub.pem")
    assert (found.record, found.log_file) == (Path("/logs"), Path("here.log"))


def test_each_setting_comes_from_the_current_folder_first(at_home: AtHome) -> None:
    own = {".env": f"API_SERVER_URL=http://hub:1\nHEYGEM_API_SECRET=s\nWAKESTREAM_KEY={KEY}\n"}
    found = at_home(own, {"wakestream.toml": 'hub = "http://hub:2"\n', ".license": "another"})
    assert (found.hub_url, found.api_secret, found.key) == ("ws://hub:2/dsp", "s", "another")


def test_a_mistake_in_the_users_own_settings_names_the_file(at_home: AtHome) -> None:
    with pytest.raises(SettingsError, match=r"home.wakestream.toml line 1 .*did you mean 'hub'"):
        at_home({"wakestream.toml": "hubb = 1\n"})


def test_an_absent_or_unreadable_settings_folder_is_ignored(at_home: AtHome, monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_home({}, WAKESTREAM_CONFIG="none") == Settings()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert at_home({".env": "nonsense"}) == Settings()


def test_a_folder_that_is_given_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAKESTREAM_CONFIG", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".env").write_text("API_SERVER_URL=http://hub:1\n")
    assert loaded(tmp_path / "else", WAKESTREAM_CONFIG=str(tmp_path / "home")) == Settings()


@pytest.mark.parametrize("variable", ["HEYGEM_API_SECRET", "WAKESTREAM_KEY", "WAKESTREAM_WEBHOOK_SECRET"])
def test_a_secret_that_is_blank_is_refused(tmp_path: Path, variable: str) -> None:
    for blank in (" ", "\t", "\n"):
        assert variable in refused(tmp_path, **{variable: blank})


@pytest.mark.parametrize("variable", ["HEYGEM_API_SECRET", "WAKESTREAM_KEY", "WAKESTREAM_WEBHOOK_SECRET"])
def test_a_short_secret_is_warned_of_and_not_shown(tmp_path: Path, variable: str) -> None:
    (warning,) = loaded(tmp_path, **{variable: "hunter2-hunter2"}).warnings
    assert "has 15 characters" in warning
    assert variable in warning
    assert "hunter2" not in warning
    assert loaded(tmp_path, **{variable: "hunter2-hunter2-"}).warnings == ()


def test_a_short_key_in_a_file_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / ".license").touch(mode=0o600)
    (tmp_path / ".license").write_text("short")
    assert "has 5 characters" in loaded(tmp_path).warnings[0]


def test_a_worker_is_looked_at_without_the_hub_where_its_address_and_its_secret_are_set(tmp_path: Path) -> None:
    def straight(**given: str) -> float | None:
        return load({}, environment=given, folder=tmp_path).policy().straight

    secret = {"HEYGEM_API_SECRET": "swordfish-0123456789"}
    assert straight(HEYGEM_SERVER_URL="gpu.example", WAKESTREAM_HEALTH_EVERY="3", **secret) == 3.0
    assert straight(HEYGEM_SERVER_URL="gpu.example") is None
    assert straight(**secret) is None


def test_the_deployed_clients_config_dat_goes_before_the_env_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_SERVER_URL=http://envfile\nHEYGEM_SERVER_URL=http://envfile:1\n")
    (tmp_path / "config.dat").write_text(
        '\ufeff# written at the first start\n\n API_SERVER_URL = http://config\nHEYGEM_API_SECRET="quoted=and#kept"\n'
        "HEYGEM_SERVER_URL=\nno setting at all\nANOTHER=1\n",
        encoding="utf-8",
    )
    found = loaded(tmp_path)
    assert (found.hub_url, found.worker_url) == ("ws://config/dsp", "http://envfile:1")
    assert found.api_secret == '"quoted=and#kept"'
    assert loaded(tmp_path, API_SERVER_URL="http://environment").hub_url == "ws://environment/dsp"


def test_config_dat_is_found_in_the_users_settings_folder(at_home: AtHome) -> None:
    own = {"config.dat": "API_SERVER_URL=http://own\nHEYGEM_SERVER_URL=own\n"}
    found = at_home(own, {".env": "API_SERVER_URL=http://here\n"})
    assert (found.hub_url, found.worker_url) == ("ws://here/dsp", "http://own:8383")


@pytest.mark.parametrize("content", [b"\0\1\2", b"API_SERVER_URL=\xff\xfe", b"#" * (1024 * 1024 + 1)])
def test_a_config_dat_of_another_program_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.dat").write_bytes(content)
    assert loaded(tmp_path) == Settings()


@pytest.mark.parametrize("file", [".env", "config.dat"])
def test_an_empty_secret_in_a_file_says_that_the_worker_wants_none(tmp_path: Path, file: str) -> None:
    assert not load({}, environment={"HEYGEM_API_SECRET": ""}, folder=tmp_path).no_secret
    (tmp_path / file).write_text("HEYGEM_API_SECRET=\n")
    found = load({}, environment={}, folder=tmp_path)
    assert (found.api_secret, found.no_secret) == (None, True)
    assert found.warnings == ()
    found = load({}, environment={"HEYGEM_API_SECRET": "swordfish-0123456789"}, folder=tmp_path)
    assert (found.api_secret, found.no_secret) == ("swordfish-0123456789", False)


HUB, EVIL = "API_SERVER_URL=http://hub\n", "API_SERVER_URL=http://evil\nHEYGEM_SERVER_URL=http://evil\n"
SECRET = "HEYGEM_API_SECRET=swordfish-0123456789\n"


def sends(settings: Settings, credential: str = "key") -> str | None:
    """Why the key or the workers' secret is not sent, or None."""
    try:
        if credential == "key":
            settings.needs_hub()
        settings.check_sent(credential, "worker", "secret_hosts")
    except SettingsError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "theirs",
    [
        {".env": EVIL},
        {"config.dat": EVIL},
        {"wakestream.toml": 'hub = "http://evil"\nworker = "http://evil"\n'},
        {"wakestream.toml": 'ca = "theirs.pem"\n'},
        {"wakestream.toml": 'hub = "http://evil"\nkey_file = "../home/.license"\nsecret_hosts = ["evil"]\n'},
    ],
)
def test_files_of_the_current_folder_do_not_decide_where_the_users_credentials_go(
    theirs: dict[str, str], at_home: AtHome
) -> None:
    found = at_home({".license": KEY, ".env": HUB + SECRET}, theirs)
    for credential, its in (("key", ".license"), ("api_secret", ".env line 2 (HEYGEM_API_SECRET)")):
        refusal = sends(found, credential) or ""
        assert str(Path("home", its)) in refusal
        assert next(iter(theirs)) in refusal
        assert KEY not in refusal


def test_files_of_one_folder_are_one_source(at_home: AtHome, tmp_path: Path) -> None:
    here = {".license": KEY, ".env": SECRET, "config.dat": EVIL, "wakestream.toml": 'ca = "hub.pem"\n', "my.key": KEY}
    found = at_home({}, here)
    assert (sends(found), sends(found, "api_secret")) == (None, None)
    for given in ("my.key", tmp_path / "here" / "my.key"):
        assert sends(at_home({}, {}, {"key_file": str(given)})) is None


@pytest.mark.skipif(os.name != "posix", reason="on Windows, links need a privilege")
@pytest.mark.parametrize("name", [".license", ".env"])
def test_a_link_to_the_users_own_credentials_is_no_file_of_the_current_folder(
    name: str, tmp_path: Path, at_home: AtHome
) -> None:
    own = {".license": KEY, ".env": f"WAKESTREAM_KEY={KEY}\n"}
    at_home(own, {"wakestream.toml": 'hub = "http://evil"\n'})
    Path(name).symlink_to(tmp_path / "home" / name)
    assert "wakestream.toml line 1 (hub)" in (sends(at_home({}, WAKESTREAM_CONFIG=str(tmp_path / "none"))) or "")


@pytest.mark.parametrize(
    ("key_of", "hub_of", "sent"),
    [
        ("flag", "flag", True), ("flag", "environment", True), ("flag", "own", True), ("flag", "here", False),
        ("environment", "flag", True), ("environment", "environment", True), ("environment", "own", False),
        ("environment", "here", False),
        ("own", "flag", True), ("own", "environment", True), ("own", "own", True), ("own", "here", False),
        ("here", "flag", True), ("here", "environment", True), ("here", "own", True), ("here", "here", True),
    ],
)  # fmt: skip
def test_a_key_goes_to_a_hub_of_its_own_or_a_more_trusted_source(
    key_of: str, hub_of: str, sent: bool, tmp_path: Path, at_home: AtHome
) -> None:
    (tmp_path / "pc.key").write_text(KEY)
    own, here = (
        ({".license": KEY} if key_of == place else {}) | ({".env": HUB} if hub_of == place else {})
        for place in ("own", "here")
    )
    flags = {"hub": "http://hub"} if hub_of == "flag" else {}
    flags |= {"key_file": str(tmp_path / "pc.key")} if key_of == "flag" else {}
    environment = {"API_SERVER_URL": "http://hub"} if hub_of == "environment" else {}
    environment |= {"WAKESTREAM_KEY": KEY} if key_of == "environment" else {}
    assert (sends(at_home(own, here, flags, **environment)) is None) is sent


def test_a_folder_that_is_the_users_own_and_the_current_one_is_the_users_own(
    at_home: AtHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home({".env": HUB, ".license": KEY})
    monkeypatch.chdir(tmp_path / "home")
    (tmp_path / "home" / "worker").mkdir()
    (tmp_path / "home" / "worker" / ".license").write_text(KEY)
    environment = {"WAKESTREAM_CONFIG": str(tmp_path / "home")}
    assert sends(load({}, environment=environment, program="worker")) is None
