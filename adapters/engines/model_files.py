"""The model files that a manifest names: where they are, how large they are, and their SHA-256.

Example:
    [kinds.portrait.models."checkpoints/flux.safetensors"]
    url = "https://huggingface.co/ORG/REPO/resolve/main/flux.safetensors"
    size = 11901525888
    sha256 = "8e91b68084b53a7fc44ed2a3756d821e355ac1a7b6fe29be760c1db532f3d88a"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines.manifest import tables_of

_PART: Final = re.compile(r"[^\\/:*?\"<>|\x00-\x1f]{1,200}")


@dataclass(frozen=True, slots=True)
class Model:
    """A model file: its place in the engine's folder, its address, its size in bytes and its SHA-256."""

    file: str
    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name without folders, for messages."""
        return self.file.rpartition("/")[2]

    @property
    def host(self) -> str:
        """Where it is, without what may be secret in an address."""
        return URL(self.url).host or ""


def models_in(manifest: Path) -> dict[str, list[Model]]:
    """The models that each kind of a manifest needs. Raises `SettingsError`; the message names the place."""
    needs: dict[str, list[Model]] = {}
    known: dict[str, Model] = {}
    for kind, table in tables_of(manifest).items():
        named = table.get("models", {}) if isinstance(table, dict) else {}
        for file, fields in named.items() if isinstance(named, dict) else ():
            at = f'{manifest}: kinds.{kind}.models."{file}"'
            model = model_of(at, file, fields)
            if known.setdefault(file, model) != model:
                raise SettingsError(f"{at}: another kind has this file with another address, size or sha256")
            needs.setdefault(kind, []).append(model)
    return needs


def model_of(at: str, file: str, fields: object) -> Model:
    """The model of a manifest's table; `at` is its place. Raises `SettingsError`."""
    parts = file.split("/")
    if not all(_PART.fullmatch(part) and not part.startswith(".") and part == part.strip() for part in parts):
        raise SettingsError(f"{at}: the file must be a path in the folder of models, such as checkpoints/a.safetensors")
    if not isinstance(fields, dict) or {*fields} != {"url", "size", "sha256"}:
        raise SettingsError(f'{at} needs "url", "size" and "sha256", and nothing else')
    url, size, digest = fields["url"], fields["size"], str(fields["sha256"]).lower()
    if not isinstance(url, str) or not _is_web(url):
        raise SettingsError(f"{at}.url must be an address that begins with https://, without a user or a password")
    if type(size) is not int or size <= 0:
        raise SettingsError(f"{at}.size must be the number of bytes")
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise SettingsError(f"{at}.sha256 must have 64 hexadecimal digits")
    return Model(file, url, size, digest)


async def described(named: Mapping[str, str]) -> list[Model]:
    """Models by file and address, with the sizes and hashes that their servers tell, as Hugging Face does.

    Args:
        named: The addresses by file. `URL#sha256=HEX` gives the hash for servers that do not tell it.

    Raises:
        SettingsError: A server does not answer, or does not tell what is needed; it says what to give.
    """
    timeout = aiohttp.ClientTimeout(total=30.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [await _described(session, file, URL(url)) for file, url in named.items()]


async def _described(session: aiohttp.ClientSession, file: str, url: URL) -> Model:
    at, plain = f"--model {file}", str(url.with_fragment(None))
    if not _is_web(plain):
        raise SettingsError(f"{at}: the address must begin with https://, without a user or a password")
    try:
        asked = session.head(plain, headers={"Accept-Encoding": "identity"}, allow_redirects=True)
        async with asked as response:
            answers = [*response.history, response]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SettingsError(f"{at}: {url.host} does not answer: {str(error) or 'no answer in time'}") from None
    # Hugging Face tells both with its redirect.
    told = next((answer for answer in answers if "X-Linked-Size" in answer.headers), answers[-1])
    size = told.headers.get("X-Linked-Size") or (told.headers.get("Content-Length") if told.status == 200 else None)
    if size is None or not size.isdecimal():
        why = f"{url.host} does not tell the size (HTTP {told.status})"
        raise SettingsError(f"{at}: {why}; correct the address, or write the model into the manifest yourself")
    digest = url.fragment.removeprefix("sha256=") or told.headers.get("X-Linked-ETag", "").strip('"')
    if re.fullmatch(r"[0-9a-fA-F]{64}", digest) is None:
        raise SettingsError(f"{at}: {url.host} does not tell the SHA-256; give it: {plain}#sha256=HEX")
    return model_of(at, file, {"url": plain, "size": int(size), "sha256": digest})


def _is_web(url: str) -> bool:
    try:
        address = URL(url)
        address.origin()
    except ValueError:
        return False
    local = address.host in ("localhost", "127.0.0.1", "::1")
    return address.user is None and (address.scheme == "https" or (address.scheme == "http" and local))
