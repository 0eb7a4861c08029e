"""What providers with an HTTP API share: authentication, time limits, and what their answers mean.

A provider is three calls and two tables: its words for states, and patterns in its messages that name an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import wraps
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from loguru import logger

from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.account import AccountPower
from wakestream.adapters.power.account import Pattern as Pattern
from wakestream.adapters.power.config import PowerConfig
from wakestream.operators.model.errors import Denied, Gone, PowerError, QuotaExceeded, Transient, TryAgain

LONGEST_ANSWER = 4 * 1024**2
"""The longest answer in bytes."""

LONGEST_WAIT = 3600.0
"""Seconds of a `Retry-After` that are obeyed."""

TOO_MANY = 10.0
"""Seconds to wait after HTTP 429 without `Retry-After`."""

R = TypeVar("R")


class HttpPower(AccountPower):
    """Base of a provider with an HTTP API. A subclass sets the class attributes and makes its calls with `call`.

    Attributes:
        api: The address of the API.
        options: The names of its own options (`--power-option`); None if the subclass checks them itself. The option
            `port` is the worker's port, 8383 by default.
        key: The environment variable of the API key, sent as `Authorization: Bearer KEY`; None for another way.
        reports_address: Whether readings have the address of each machine that runs.

    Args:
        config: The configuration.

    Example:
        >>> class Acme(HttpPower):
        ...     name, api, key = "acme", "https://api.acme.example", "ACME_KEY"
        ...     states = {"on": "running", "off": "stopped"}
        ...
        ...     async def inspect(self) -> Reading:
        ...         return Reading(self.state((await self.call("GET", f"/machines/{await self.machine()}"))["status"]))
    """

    api: ClassVar[str]
    options: ClassVar[Collection[str] | None] = None
    key: ClassVar[str | None] = None
    reports_address: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("start", "stop", "inspect", "machines"):
            if name in vars(cls):
                setattr(cls, name, _expecting(vars(cls)[name]))

    def __init__(self, config: PowerConfig) -> None:
        super().__init__(config)
        url = config.base_url or self.api
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingsError(f"--power-option base_url={url[:80]}: write an http or https address")
        self._base = url.rstrip("/")
        # A little less than the call's limit, so that the reason names the address.
        self._timeout = aiohttp.ClientTimeout(total=0.95 * config.timeout, sock_connect=min(30.0, 0.5 * config.timeout))
        self._session: aiohttp.ClientSession | None = None
        self._read_secret: Callable[[str], str] = config.secret
        if self.options is not None:
            self._port = self.port(config.known(self.name, self.options))
        if self.key is not None:
            self._key = self.secret(self.key)

    # --- for subclasses

    def secret(self, name: str) -> str:
        """Read a credential by the name of its environment variable. Messages of the provider never show it.

        Raises:
            SettingsError: It is not set, or would be sent over an open connection.
        """
        # Whether others can read what is sent to this address.
        parts = urlsplit(self._base)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise SettingsError(
                f"--power-option base_url={self._base[:80]}: write https, as credentials are sent to it"
            )
        credential = self._read_secret(name)
        self._secrets.append(credential)
        return credential

    def headers(self) -> Mapping[str, str]:
        """The headers of each request, such as the authorization."""
        return {} if self.key is None else {"Authorization": f"Bearer {self._key}"}

    def connector(self) -> aiohttp.BaseConnector | None:
        """How connections are made, such as by a Unix socket; None for TCP, with TLS as the system trusts it."""
        return None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a request and return the decoded JSON of the answer.

        Args:
            method: The HTTP method.
            path: The path below the API's address.
            params: The query.
            body: Sent as JSON.
            form: Sent as an HTML form.

        Raises:
            Denied: HTTP 401 or 403.
            QuotaExceeded: HTTP 402.
            Gone: HTTP 404 or 410, with JSON.
            TryAgain: HTTP 409, 423 or 429, or 503 with `Retry-After`.
            Transient: No answer, HTTP 5xx, no JSON, or an unknown error.
            PowerError: What `errors` says.
        """
        what = f"{method} {path}"
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, connector=self.connector())
        try:
            async with self._session.request(
                method,
                self._base + path,
                params=params,
                json=body,
                data=form,
                headers=self.headers(),
                allow_redirects=False,
            ) as answer:
                raw = bytearray()
                async for piece in answer.content.iter_any():
                    raw += piece
                    if len(raw) > LONGEST_ANSWER:
                        raise Transient(f"{self.name}: the answer to `{what}` is longer than {LONGEST_ANSWER} bytes")
                return self._read(what, answer, bytes(raw))
        except TimeoutError:
            raise Transient(f"{self.name}: {self._host} did not answer `{what}` within {self._limit:g} s") from None
        except aiohttp.ClientError as error:
            why = self.plain(str(error) or type(error).__name__)
            raise Transient(f"{self.name}: no answer of {self._host} to `{what}`: {why}") from None

    def port(self, options: Mapping[str, str]) -> int:
        """The worker's port, from the option `port`. Raises `SettingsError` if it is no port."""
        text = options.get("port", "8383")
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise SettingsError(f"--power-option port={text[:40]}: write a port, such as 8383")
        return int(text)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- answers

    def message(self, document: Any) -> tuple[object, str]:
        """The code and the message in the JSON of a failed request."""
        if not isinstance(document, Mapping):
            return "", str(document)
        code = next((name for name in ("code", "RetCode", "status", "error") if name in document), "")
        texts = ("message", "Message", "msg", "error", "detail", "title")
        text = next((str(document[name]) for name in texts if name != code and document.get(name)), "")
        return document.get(code, ""), text

    @property
    def _host(self) -> str:
        return urlsplit(self._base).netloc

    def _read(self, what: str, answer: aiohttp.ClientResponse, raw: bytes) -> Any:
        try:
            document = msgspec.json.decode(raw) if raw else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = _NOT_JSON
        if 200 <= answer.status < 300 or answer.status == 304:  # 304: already so (Docker)
            if document is _NOT_JSON:
                text = self.plain(raw[:80].decode(errors="replace"))
                raise Transient(f"{self.name}: {self._host} answered `{what}` with something else than JSON: {text!r}")
            return document
        raise self._failed(what, answer, document, raw)

    def _failed(self, what: str, answer: aiohttp.ClientResponse, document: Any, raw: bytes) -> PowerError:
        status, is_json = answer.status, document is not _NOT_JSON and document is not None
        try:
            code, message = self.message(document) if is_json else ("", raw[:200].decode(errors="replace"))
        except _UNEXPECTED:  # a proxy in front of the API has a form of its own
            code, message = HttpPower.message(self, document)
        text = f"{self.name}: HTTP {status} to `{what}`: {self.plain(f'{code} {message}'.strip()) or answer.reason}"
        wait = _retry_after(answer.headers)
        if status == 429:
            return TryAgain(text, TOO_MANY if wait is None else wait)
        kind = self.meaning(f"{code} {message}") if status < 500 or is_json else None
        if kind is not None and not issubclass(kind, TryAgain):
            return kind(text)
        # After other answers the call may have had an effect.
        if kind is not None or status in (409, 423) or (status == 503 and wait is not None):
            return TryAgain(text) if wait is None else TryAgain(text, wait)
        if status in (401, 403):
            return Denied(f"{text}; check the credentials of --power {self.name}")
        if status == 402:
            return QuotaExceeded(text)
        if status in (404, 410) and is_json:
            return Gone(text)
        if status < 500:
            self.note_unknown(text)
        return Transient(text)


_NOT_JSON = object()
_UNEXPECTED = (KeyError, TypeError, AttributeError, ValueError, IndexError)


def _expecting(call: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    """A call that reads an answer: one of another shape than expected is `Transient`."""

    @wraps(call)
    async def read(self: HttpPower) -> R:
        try:
            return await call(self)
        except _UNEXPECTED as error:
            logger.opt(exception=error).debug("{}: an unexpected answer", self.name)
            why = f"{type(error).__name__}: {self.plain(str(error))}"
            raise Transient(f"{self.name}: the API's answer has another form than its documents say ({why})") from error

    return read


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of `Retry-After`, a number or a date, within reason."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else _until(text, headers.get("Date", ""))
    except (ValueError, TypeError, IndexError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def _until(text: str, date: str) -> float:
    # By the server's own clock, if it shows it: this machine's may be wrong.
    now = parsedate_to_datetime(date).timestamp() if date else time.time()
    return parsedate_to_datetime(text).timestamp() - now


def unix_seconds(text: object) -> float | None:
    """The UNIX seconds of a number or an ISO 8601 text; None for anything else.

    Example:
        >>> unix_seconds("2026-01-01T00:00:00Z")
        1767225600.0
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text) if 0 < text < 1e11 else None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds if seconds > 0 else None  # year 1 means never (Docker)
