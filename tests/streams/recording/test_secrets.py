"""What is taken for a secret, by its name and by its form."""

import string
import time

import pytest

from wakestream.streams.recording.secrets import REDACTED, is_secret_name, redact, redact_text

S = "S3CR3Tpart"
B64 = "dXNlcjpTM0NSM1Q="

NAMES = [
    "api_token", "auth_token", "refresh_token", "id_token", "accessToken", "sessionToken", "bot_token",
    "X-Auth-Token", "csrf_token", "password", "passwd", "pwd", "passphrase", "userPassword", "db_password",
    "REDFISH_PASSWORD", "secret", "client_secret", "clientSecret", "webhook_secret", "aws_secret_access_key",
    "SecretAccessKey", "AccessKeySecret", "key", "apikey", "apiKey", "x-api-key", "private_key", "privateKey",
    "secret_key", "ssh_key", "signing_key", "admin_key", "WAKESTREAM_KEY", "RUNPOD_API_KEY", "AUTODL_TOKEN",
    "COMPSHARE_PRIVATE_KEY", "authorization", "Proxy-Authorization", "bearer", "jwt", "otp", "cookie", "Set-Cookie",
    "credentials", "X-Amz-Credential", "X-Amz-Security-Token", "X-Amz-Signature", "X-Goog-Signature", "sig",
    "signature", "session_id", "webhook_url", "connectionString", "private_key_pem", "token2",
    "session", "ticket", "pairing", "auth",
]  # fmt: skip
OTHERS = [
    "token_type", "token_expires", "capability_expires", "capability_key", "public_key", "cache_key", "key_file",
    "key_id", "secret_hosts", "tokens", "max_tokens", "tokenizer", "keyboard", "monkey", "author", "position",
    "passed_on", "no_capacity", "license", "license_id", "sessions", "author_id", "code", "link", "gpu",
]  # fmt: skip

TEXTS = [
    f"GET /x?token={S}", f"ws://hub/ws/progress/x?token={S}&since=1", f"http://user:{S}@hub/x", f"redis://:{S}@hub:1",
    f"https://{S}12345@github.com/x", f"curl -u me:{S}@hub", f"Authorization: Basic {B64}", f"sent Basic {B64}",
    f"'Authorization': 'Bearer {S}'", f"Proxy-Authorization: Digest username=me, response={S}", f"whsec_{S}0123456789",
    f"-----BEGIN RSA PRIVATE KEY-----\n{S}\n-----END RSA PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----\\n{S} cut",
    f"http://127.0.0.1:1/#link={S}", f"https://b.s3.amazonaws.com/k?X-Amz-Credential={S}%2F2026&X-Amz-Signature={S}",
    f"https://a.blob.core.windows.net/c?sv=2&sig={S}%2B1", f"https://s.googleapis.com/k?X-Goog-Signature={S}",
    f"next=http%3A%2F%2Fhub%3Ftoken%3D{S}%26x", f"password={S}", f"password: {S}", f"api_key: '{S} two words'",
    f'{{"client_secret": "{S} two words"}}', f'"{{\\"client_secret\\": \\"{S}\\"}}"', f"WAKESTREAM_KEY={S}",
    f"Cookie: session={S}; other={S}", f"Set-Cookie: id={S}; Path=/", f"X-Api-Key: {S}", f"--token {S}",
    f"--password={S}", f"ws_client_{S}0123456789", f"eyJhbGciOiJIUzI1NiJ9.{S}", f"ghp_{S}0123456789", f"sk_live_{S}",
    f"sk-{S}0123456789", f"hf_{S}0123456789", f"r8_{S}0123456789", f"glpat-{S}0123456789", f"xoxb-{S}",
    f"AccountKey={S}==;x", "AKIAS3CR3TPART012345", f'{{"session": "{S}", "ticket": "{S}"}}',
    f"密钥HEYGEM_API_SECRET={S}", f"HEYGEM_API_SECRET={S}", f"export NAME_TOKEN='a{S}' NAME_KEY={S}",
    f"NAME_SECRET=a&b;{S}#)%26,{S}",
    f'NAME_TOKEN="a \\"{S}"', f"NAME_KEY=a\\ {S}", f'"NAME_KEY=\\"a {S}\\""',
]  # fmt: skip
SENTENCES = [
    "basic protocol only", "invalid token: expected 5 parts", "the hub refused this key: it was revoked",
    "wrong token: 401", "12:00:01 gpu: studio", "worker http://127.0.0.1:8383/x", "mailto:someone@hub.example",
    "job ws-0123456789abcdef01: done", "key_file=/etc/x secret_hosts=a.b", "wake@10.0.0.7:/srv", "issue --role client",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_value_with_the_name_of_a_secret_is_removed(name: str) -> None:
    assert is_secret_name(name)
    assert redact({"a": [{name: S}]}) == {"a": [{name: REDACTED}]}


@pytest.mark.parametrize("name", OTHERS)
def test_a_value_with_a_similar_name_stays(name: str) -> None:
    assert redact({name: "some text"}) == {name: "some text"}


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_by_its_form_and_hidden_once(text: str) -> None:
    clean = redact_text(text)
    assert not any(part in clean.upper() for part in ("S3CR3T", B64.upper()))
    assert REDACTED in clean
    assert redact_text(clean) == clean
    assert redact_text(redact_text(text, "***")) == redact_text(text, "***")


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_without_a_secret_stays(text: str) -> None:
    assert redact_text(text) == text


def test_structures_below_the_name_of_a_secret_stay() -> None:
    """A GPU may be called `token`."""
    assert redact({"costs": {"my-token": {"on": 1}, "pins": [1]}}) == {"costs": {"my-token": {"on": 1}, "pins": [1]}}


REPEATED = [*string.punctuation, "a", "a=", "a:", "//", "key ", "--k ", "a.b-", "eyJa-.", "x@", "a:b%", "basic "]


@pytest.mark.parametrize("part", REPEATED)
def test_a_long_text_is_searched_in_linear_time(part: str) -> None:
    def seconds(length: int) -> float:
        text = part * (length // len(part))
        began = time.process_time()
        redact_text(text)
        return time.process_time() - began

    short = min(seconds(20_000 + 20 * extra) for extra in range(3))
    assert min(seconds(160_000 + 20 * extra) for extra in range(3)) < 24 * short + 0.1


def test_the_value_of_a_variable_ends_where_the_shell_ends_it() -> None:
    assert redact_text(f"A_KEY={S}&x B=1") == f"A_KEY={REDACTED} B=1"
    assert redact_text(f'{{"text": "A_KEY={S};x", "gpu": "a"}}') == f'{{"text": "A_KEY={REDACTED}", "gpu": "a"}}'
    assert redact_text(f"GET /x?A_KEY={S}&b=1") == f"GET /x?A_KEY={REDACTED}&b=1"


def test_the_numbers_by_which_a_recording_is_replayed_stay() -> None:
    assert redact({"ticket": 7, "session": {"at": 1}}) == {"ticket": 7, "session": {"at": 1}}
