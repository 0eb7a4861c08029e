"""`wakestream kinds`: the kinds of jobs that GPU machines can do."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import kinds_add

EXAMPLES = (
    "kinds add portrait.json",
    "kinds add portrait.json --param seed=3.inputs.seed --in image=5.inputs.image --out video=9",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with kinds."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    kinds_add.arguments(actions.add_parser("add", help="add a ComfyUI workflow to a manifest, as a kind of job"))


def run(args: argparse.Namespace) -> int:
    """Do it at once."""
    return kinds_add.run(args)
