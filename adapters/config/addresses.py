"""Parses addresses that users write. Each function raises `ValueError` with what to write instead."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from wakestream.adapters.config.numbers import whole_number

HUB_PATH = "/dsp"
WORKER_PORT = 8383
_HUB_SCHEMES = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}


def hub_url(text: str) -> str:
    """The hub's WebSocket address: `https://h` becomes `wss://h/dsp`, a path that ends in `/dsp` is kept.

    Without a scheme it is `wss`, on loopback `ws`.
    """
    text, example = text.strip(), "https://hub.example.com"
    parts = _split(text if "://" in text else f"wss://{text}", example)
    if "://" not in text and is_loopback(parts.hostname or ""):
        parts = parts._replace(scheme="ws")
    if parts.scheme not in _HUB_SCHEMES:
        raise ValueError(f"begins with {parts.scheme}://; write https://, http://, wss:// or ws://")
    path = parts.path.rstrip("/")
    if not path.endswith(HUB_PATH):
        path += HUB_PATH
    return f"{_HUB_SCHEMES[parts.scheme]}://{_netloc(parts, None)}{path}"


def hub_urls(text: str) -> str:
    """The addresses of one or several hubs, separated by commas, each as `hub_url` returns it."""
    given, urls = [part for part in text.split(",") if part.strip()], list[str]()
    for number, part in enumerate(given, 1):
        try:
            url = hub_url(part)
        except ValueError as error:
            where = f"has a wrong address {number}, which " if len(given) > 1 else ""
            raise ValueError(f"{where}{error}") from None
        if url in urls:
            raise ValueError(f"has {url} twice; write the address of each hub once")
        urls.append(url)
    return ",".join(urls) or hub_url(text)


def serves(hubs: str | None, ours: str | None) -> bool:
    """Whether a program at `hubs` serves one of `ours`; any, if `ours` is None (both as `hub_urls` returns them)."""
    return ours is None or not {*ours.split(",")}.isdisjoint((hubs or "").split(","))


def worker_url(text: str) -> str:
    """The worker's HTTP address without a slash at its end; `http://` and `:8383` are filled in where missing."""
    text = text.strip()
    parts = _split(text if "://" in text else f"http://{text}", "http://gpu.example.com:8383")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"begins with {parts.scheme}://; write http:// or https://")
    return f"{parts.scheme}://{_netloc(parts, WORKER_PORT)}{parts.path.rstrip('/')}"


def webhook_url(text: str) -> str:
    """The address of a webhook. It may have a query; only surrounding blanks are removed."""
    text = text.strip()
    address, _, _query = text.partition("?")
    if _split(address, "https://shop.example.com/done").scheme not in ("http", "https"):
        raise ValueError("does not begin with http:// or https://")
    if not text.isascii() or not text.isprintable() or " " in text or "#" in text:
        raise ValueError(
            "contains a blank, a # or a letter that is not ASCII; write it percent-encoded, such as %20 for a blank"
        )
    return text


def listen_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` as a pair; `:PORT` listens on every address, port 0 takes a free one, `[::1]:8080` is IPv6."""
    host, colon, port = text.strip().rpartition(":")
    number = whole_number(port, most=65535)
    if not colon or number is None:
        raise ValueError(f"{text!r} is not HOST:PORT; write for example 127.0.0.1:8080")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{text[:60]!r} has no host name; write for example 127.0.0.1:8080") from None
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: write the IPv6 address in brackets; write for example [::1]:8080")
    return host.strip("[]") or "0.0.0.0", number  # noqa: S104 - the user left the host out


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """The host in a URL, without port and brackets."""
    return (urlsplit(url).hostname or "").lower()


def port_of(url: str) -> int | None:
    """The port in a URL, if it has one."""
    return urlsplit(url).port


def hosts(value: str) -> tuple[str, ...]:
    """A list of hosts, separated by commas or blanks: names, endings such as `.gpu.example`, addresses, networks."""
    entries = tuple(part.lower().strip("[]") for part in value.replace(",", " ").split())
    for host in entries:
        if "://" in host or not re.fullmatch(r"\.?[a-z0-9_:]([a-z0-9_.:-]*[a-z0-9_:])?(/\d{1,3})?", host):
            raise ValueError(f"{host[:60]!r} is not a host; write for example gpu.example, .gpu.example or 10.0.0.0/24")
    return entries


def is_among(url: str, listed: Collection[str]) -> bool:
    """Whether the host of `url` is one of those `listed` (see `hosts`)."""
    host = host_of(url)
    return any(
        host == entry or (entry.startswith(".") and host.endswith(entry)) or ("/" in entry and _in_network(host, entry))
        for entry in listed
    )


def _in_network(host: str, listed: str) -> bool:
    try:
        return ipaddress.ip_address(host) in network(listed)
    except ValueError:
        return False


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """One IP address, or a network."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:60]!r} is not an IP address; write one such as 10.0.0.2, or 172.18.0.0/16 for a network"
        ) from None


def at_port(host: str, port: int) -> str:
    """`host:port` as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str, example: str) -> SplitResult:
    # No error shows the text: with a password or a query in it, it is a secret.
    if "@" in text:
        raise ValueError(
            "contains a user name or a password; remove the part up to @, as the URL must not contain credentials"
        )
    if "?" in text or "#" in text:
        raise ValueError(f"contains ? or #; write only scheme, host, port and path, such as {example}")
    if any(letter.isspace() or not letter.isprintable() for letter in text):
        raise ValueError(f"contains a blank or a control character; write for example {example}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not an address; write for example {example}") from None
    if "://" not in text or not parts.hostname:
        raise ValueError(f"lacks scheme or host; write for example {example}")
    if port == 0:
        raise ValueError(f"has port 0; write the server's port, such as {example}")
    return parts


def _netloc(parts: SplitResult, default_port: int | None) -> str:
    host = parts.hostname or ""
    port = parts.port if parts.port is not None else default_port
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"
