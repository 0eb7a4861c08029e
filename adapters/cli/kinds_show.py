"""Shows what the GPUs can do: all kinds as a table, or one kind with its inputs, parameters and outputs."""

from __future__ import annotations

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import kind_text
from wakestream.adapters.cli.render.table import paragraphs, table, terminal_columns
from wakestream.adapters.client.hub_query import hub_kinds
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.runtime.printing import answer, say
from wakestream.operators.model.errors import UnknownKind
from wakestream.streams.protocol.known_kinds import KnownKinds


async def known_kinds(settings: Settings, state: str | None) -> KnownKinds:
    """The kinds, from the daemon if one runs for this hub, else from the hub.

    Args:
        settings: Name the hub and the key.
        state: The daemon's folder, if it is not the usual one.

    Raises:
        HubUnreachable: No daemon runs, and the hub does not answer.
        HubRefused: The hub refuses the connection.
    """
    async with open_daemon_client(state) as client:
        found = await client.look()
        if found is not None and settings.hub_url in (None, found.get("hub")):
            return await client.kinds()
    return await hub_kinds(settings)


async def show_kinds(settings: Settings, state: str | None, *, as_json: bool) -> int:
    """Print the kinds as a table, or as JSON."""
    known = await known_kinds(settings, state)
    rows = table(kind_text.rows(known)) if known.kinds else []
    answer(known.plain(), *rows, as_json=as_json)
    if not as_json:
        said = [t("kinds.unknown")] if not known.known else [] if known.complete else [t("kinds.incomplete")]
        none = [t("kinds.none")] if known.complete and not known.kinds else []
        say(*paragraphs([*none, *said], terminal_columns()))
    return exit_codes.DONE


async def show_kind(kind: str, settings: Settings, state: str | None) -> int:
    """Print the inputs, parameters and outputs of a kind.

    Raises:
        UnknownKind: No GPU has it, as far as is known.
    """
    known = await known_kinds(settings, state)
    found = [each for each in known.kinds if each.kind.name == kind]
    if not found:
        known.check(kind, {}, {}, ["result"])
        have = ", ".join(dict.fromkeys(each.kind.name for each in known.kinds))
        why = f"; known are {have}" if have else "" if known.known else "; the hub does not tell its kinds"
        raise UnknownKind("kind", f"nothing is known of the kind {kind!r}{why}")
    for number, each in enumerate(found):
        say(*([""] if number else []), *paragraphs(kind_text.lines(each), terminal_columns()))
    return exit_codes.DONE
