"""`wakestream kinds`: the kinds of jobs that the GPUs can do; `kinds add` makes one of a ComfyUI workflow."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.any_kind import pairs
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.kinds_show import show_kind, show_kinds
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.engines.comfyui import DEFAULT_URL
from wakestream.adapters.engines.comfyui_kinds import Chosen, Draft, draft, object_info, write
from wakestream.adapters.engines.model_files import described
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.operators.model.errors import EngineUnreachable

EXAMPLES = (
    "kinds",
    "kinds --json | jq -r .kinds[].kind.name",
    "kinds add portrait.json",
    "kinds add portrait.json --param seed=3.inputs.seed --in image=5.inputs.image --out video=9",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the list, and the things to do with kinds."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    _flags_of_add(actions.add_parser("add", help="add a ComfyUI workflow to a manifest, as a kind of job"))
    flags.add(parser, "--json", "the kinds with their schemas as one JSON object")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """List the kinds, show one, or add one."""
    if args.action == "add":
        return _add(args)
    settings = begin(args, usual_level="CRITICAL")
    if args.action == "show":  # `submit --kind KIND --help`
        return run_program(lambda _: show_kind(args.kind, settings, args.state))
    return run_program(lambda _: show_kinds(settings, args.state, as_json=args.json))


def _flags_of_add(parser: argparse.ArgumentParser) -> None:
    """The workflow, and what is not to be proposed."""
    parser.add_argument("workflow", metavar="WORKFLOW", help="the workflow, exported from ComfyUI in API format")
    flags.add(parser, "--name K", "the kind's name (default: from the file's name)")
    flags.add(parser, "--title TEXT", "a few words for people", default="")
    named = {
        "--in NAME=PLACE": "an input file, such as image=5.inputs.image; replaces the proposed ones",
        "--param NAME=PLACE": "a parameter, such as seed=3.inputs.seed; replaces the proposed ones",
        "--out NAME=NODE": "an output, such as video=9; replaces the proposed ones",
    }
    for dest, (flag, text) in zip(("inputs", "params", "outputs"), named.items(), strict=True):
        flags.add(parser, flag, text, action="append", default=[], dest=dest)
    text = "a model that the worker fetches, such as checkpoints/a.safetensors=https://…; may be given several times"
    flags.add(parser, "--model FILE=URL", text, action="append", default=[], dest="models")
    text = "the manifest of the worker's engine (default kinds.toml)"
    flags.add(parser, "--manifest FILE", text, default="kinds.toml")
    text = f"the ComfyUI to ask for limits and choices (default {DEFAULT_URL})"
    flags.add(parser, "--url URL", text, default=DEFAULT_URL)
    flags.add(parser, "--replace", "replace a kind of this name")
    flags.add(parser, "--dry-run", "only show what would be written")
    flags.add(parser, "--json", "as a JSON object")


def _add(args: argparse.Namespace) -> int:
    """Show the kind and write it."""
    info, why = _asked(args.url)
    wanted = Chosen(
        args.name, args.title, pairs("--in", args.inputs), pairs("--param", args.params), pairs("--out", args.outputs),
        asyncio.run(described(pairs("--model", args.models))),
    )  # fmt: skip
    made = draft(Path(args.workflow).expanduser(), Path(args.manifest).expanduser(), wanted, info)
    if args.json:
        say_json(made.as_json())
    else:
        say(*made.toml().splitlines(), "")
    if not args.dry_run:
        write(made, replace=args.replace)
    if not args.json:
        _tell(made, args, why)
    return exit_codes.DONE


def _asked(url: str) -> tuple[Mapping[str, Any], str]:
    """What ComfyUI says of its nodes; nothing, and the reason, if it cannot be asked."""
    try:
        return asyncio.run(object_info(url)), ""
    except EngineUnreachable as error:
        return {}, str(error)


def _tell(made: Draft, args: argparse.Namespace, why: str) -> None:
    if why:
        say(t("kinds.not_asked", why=why), error=True)
    for lack in made.lacks():
        say(t("kinds.lacks", what=lack), error=True)
    if args.dry_run:
        say(t("kinds.not_written"))
        return
    say(t("kinds.written", manifest=made.manifest, workflow=made.file))
    options = f"--engine comfyui --engine-option url={args.url} --engine-option manifest={made.manifest}"
    options += " --models DIR" if made.models else ""
    say(t("kinds.next", options=options))
