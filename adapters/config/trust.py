"""Where settings come from, and which sources may say where a credential is sent.

The sources in the order of trust: flags, the environment, the user's own folder, other folders (the current one). The
files of one folder are one source. A credential is sent only to an address that its own source or a more trusted one
names: a folder with files of another person must not send the user's key elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from wakestream.adapters.config.setting_files import Given, SettingsError, Source

ENVIRONMENT, OWN = Source(1), Source(2)


def source_of(file: Path, here: Path, own: Collection[Path] = ()) -> Source:
    """The source that a settings file or a key file is.

    Args:
        file: The file. A link belongs to the folder that it leads to.
        here: The current folder; files below it belong to it.
        own: The folders of the user's own settings.

    Example:
        >>> source_of(Path(".env"), Path()) == source_of(Path("keys/client.key"), Path())
        True
    """
    folder, current = file.resolve().parent, here.resolve()
    if any(folder == path.resolve() for path in own):
        return OWN
    return Source(3, str(current if folder.is_relative_to(current) else folder))


def from_source(layer: Mapping[str, Given], source: Source) -> dict[str, Given]:
    """The settings of a layer, as settings of this source."""
    return {name: replace(given, source=source) for name, given in layer.items()}


def check(credential: Given | None, receiver: Given | None) -> None:
    """Refuse to send a credential to an address of a source that is trusted less.

    Args:
        credential: The credential, if it is set.
        receiver: The setting that decides where it is sent, if it is set.

    Raises:
        SettingsError: The receiver is named by a less trusted source; the message names both sources.
    """
    if credential is None or receiver is None:
        return
    if receiver.source == credential.source or receiver.source.rank < credential.source.rank:
        return
    raise SettingsError(
        f"{credential.where}: this credential is not sent where {receiver.where} says, as that source is trusted less; "
        "give the address by a flag, or beside the credential"
    )
