"""What ComfyUI's answers mean: errors of a job's fields, errors of nodes, and the files of an output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wakestream.adapters.engines.comfyui_workflow import WorkflowKind
from wakestream.operators.model.engine import Slot
from wakestream.operators.model.errors import TaskFailed, WakestreamError, WrongInput
from wakestream.streams.protocol.kinds import file_fits


def _files_in(output: object) -> list[Mapping[str, Any]]:
    """All files of a node's output: they are under `images`, `gifs`, `audio`, `3d`, … depending on the node."""
    lists = output.values() if isinstance(output, Mapping) else ()
    return [one for each in lists if isinstance(each, list) for one in each if isinstance(one, Mapping)]


def text_of(output: object) -> str | None:
    """The text that a node shows, for outputs without a file; None if it shows none."""
    shown = output.get("text") if isinstance(output, Mapping) else None
    return "\n".join(map(str, shown)) if isinstance(shown, list) and shown else None


def best_files(output: object, slot: Slot) -> list[Mapping[str, Any]]:
    """The files that were saved and have an ending of the output; previews only where nothing was saved.

    Of an output that is no list, it is the first one.
    """
    files = [one for one in _files_in(output) if one.get("filename")]

    def rank(one: Mapping[str, Any]) -> tuple[bool, bool]:
        return one.get("type") != "output", not file_fits(slot, Path(str(one["filename"])).suffix.lower())

    best = min(map(rank, files), default=None)
    found = [one for one in files if rank(one) == best]
    return found if slot.many else found[:1]


def refused_outputs(kind: WorkflowKind, said: Mapping[str, Any], wanted: Sequence[str]) -> WakestreamError | None:
    """The error of a wanted output that ComfyUI leaves out, although it takes the prompt for the sake of others."""
    nodes = {kind.outputs[name] for name in wanted}
    errors = said.get("node_errors")
    wrong = {
        node: found
        for node, found in (errors.items() if isinstance(errors, Mapping) else ())
        if nodes & {str(each) for each in found.get("dependent_outputs", ())}
    }
    return refusal(kind, {"node_errors": wrong}) if wrong else None


def refusal(kind: WorkflowKind, said: Mapping[str, Any]) -> WakestreamError:
    """The error for a prompt that ComfyUI refused; a wrong value of a field of the job names that field."""
    errors = said.get("node_errors")
    texts: list[str] = []
    for node, found in (errors or {}).items() if isinstance(errors, Mapping) else ():
        for error in found.get("errors", ()):
            name = str((error.get("extra_info") or {}).get("input_name", ""))
            text = f"{error.get('message', '')}: {error.get('details', '')}".strip(": ")[:300]
            if (field_name := kind.field_at(str(node), name)) is not None:
                return WrongInput(field_name, f"{field_name}: ComfyUI refuses it: {text}")
            texts.append(f"at node {node} {found.get('class_type', '')}: {text}")
    if texts:
        return TaskFailed(f"ComfyUI refused the workflow {texts[0]}")
    error = said.get("error")
    text = f"{error.get('message', '')} {error.get('details', '')}" if isinstance(error, Mapping) else str(error)
    return TaskFailed(f"ComfyUI refused the workflow: {text.strip()[:300]}")


def failure(kind: WorkflowKind, entry: Mapping[str, Any]) -> WakestreamError | None:
    """Why the prompt of this entry of the history failed; None if it succeeded."""
    status = entry.get("status") or {}
    if status.get("status_str") != "error" and status.get("completed", True):
        return None
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], Mapping):
            if message[0] == "execution_error":
                return _error_at(kind, message[1])
            if message[0] == "execution_interrupted":
                return TaskFailed("the work was interrupted in ComfyUI")
    return TaskFailed("ComfyUI failed without a reason; see its log")


def _error_at(kind: WorkflowKind, data: Mapping[str, Any]) -> WakestreamError:
    """The error of a node. If the node loads an input file, that file is wrong."""
    node, text = str(data.get("node_id")), str(data.get("exception_message") or "without a reason").strip()[:500]
    said = f"ComfyUI failed at node {node} {data.get('node_type') or ''}: {text}"
    for name, (place, _) in kind.inputs.items():
        if place == node:
            return WrongInput(f"inputs.{name}", f"input {name}: {said}")
    return TaskFailed(said)
