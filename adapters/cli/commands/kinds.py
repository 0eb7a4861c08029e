"""`wakestream kinds`: the kinds of jobs that the GPUs can do."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import flags, kinds_add
from wakestream.adapters.cli.kinds_show import show_kinds
from wakestream.adapters.cli.service import begin, run_program

EXAMPLES = (
    "kinds",
    "kinds --json | jq -r .kinds[].kind.name",
    "kinds add portrait.json",
    "kinds add portrait.json --param seed=3.inputs.seed --in image=5.inputs.image --out video=9",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the list, and the things to do with kinds."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    kinds_add.arguments(actions.add_parser("add", help="add a ComfyUI workflow to a manifest, as a kind of job"))
    flags.add(parser, "--json", "the kinds with their schemas as one JSON object")
    flags.daemon(parser)
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """List the kinds, or add one."""
    if args.action == "add":
        return kinds_add.run(args)
    settings = begin(args, usual_level="CRITICAL")
    return run_program(lambda _: show_kinds(settings, args.state, as_json=args.json))
