"""The rule that streams/ and operators/ are the same on every run: no clock, chance, environment or order of their own.

Reads the source and runs nothing. A fault is what a module may not do; each exception must be listed by
name, with the reason.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

AMBIENT = frozenset({
    "concurrent", "ctypes", "datetime", "fcntl", "getpass", "glob", "http", "io", "locale", "multiprocessing", "os",
    "platform", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid",
})  # fmt: skip
"""Modules whose answers depend on the moment, the machine or the process."""

BUILTINS = frozenset({"__import__", "breakpoint", "eval", "exec", "hash", "id", "input", "open", "print"})
"""`id` and `hash` differ from run to run, and so does what is ordered or keyed by them."""

ASYNCIO = frozenset({
    "CancelledError", "Future", "AbstractEventLoop", "Handle", "TimerHandle", "Task", "current_task",
    "get_running_loop", "wait",
})  # fmt: skip
"""What may be used of asyncio: the loop that is given, and its types."""

OF_THE_WORLD = frozenset({
    "now", "utcnow", "today", "time", "monotonic", "perf_counter", "run_in_executor", "create_connection",
    "create_server", "getaddrinfo", "add_signal_handler", "open", "read_text", "read_bytes", "write_text",
    "write_bytes", "exists", "is_file", "is_dir", "stat", "cwd", "home", "expanduser", "iterdir", "rglob", "unlink",
    "mkdir", "touch", "absolute",
})  # fmt: skip
"""Methods, of whatever object, that read a clock or touch files or sockets."""

ORDERED = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum", "bool"})
"""What may be made of a set: its order cannot be seen in the result."""

ORDER_KEPT = frozenset({"list", "tuple", "enumerate", "iter", "next", "zip", "map", "filter", "dict", "deque", "chain"})
"""What hands the order of its argument on."""

OPERATIONS = frozenset({"union", "intersection", "difference", "symmetric_difference"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What a module does and may not do."""

    line: int
    what: str


def faults(source: str, sets: frozenset[str] = frozenset()) -> list[Fault]:
    """The faults of a module, in order. `sets` are attributes that hold sets, in it or elsewhere (see `set_names`)."""
    tree = ast.parse(source)
    found = {*_imports(tree), *_calls(tree), *_Orders(tree, sets).faults()}
    return sorted(found, key=lambda fault: (fault.line, fault.what))


def set_names(source: str) -> Iterator[str]:
    """The attributes that a module declares to hold sets."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            match node.target:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name


def _imports(tree: ast.AST) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Fault(node.lineno, f"import {one.name}") for one in node.names if _ambient(one.name))
        elif isinstance(node, ast.ImportFrom) and node.module and (_ambient(node.module) or node.module == "asyncio"):
            names = [one.name for one in node.names if (node.module, one.name) != ("random", "Random")]
            yield from (Fault(node.lineno, f"from {node.module} import {name}") for name in names)


def _ambient(module: str) -> bool:
    return module.split(".")[0] in {*AMBIENT, "random"}


def _calls(tree: ast.AST) -> Iterator[Fault]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Random"), args=[], keywords=[]):
                yield Fault(node.lineno, "Random() without a seed")
            case ast.Name(id=name, ctx=ast.Load()) if name in BUILTINS:
                yield Fault(node.lineno, name)
            case ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name not in ASYNCIO:
                yield Fault(node.lineno, f"asyncio.{name}")
            case ast.Call(func=ast.Attribute(attr=name, value=owner)) if name in OF_THE_WORLD and not _is_self(owner):
                yield Fault(node.lineno, f".{name}()")


def _is_self(owner: ast.expr) -> bool:
    """A method of the module's own class is looked at where it is defined."""
    return isinstance(owner, ast.Name) and owner.id == "self"


@dataclass
class _Orders:
    """Where the order of a set gets out. A set is recognised by how it is made, or by a name declared to hold one."""

    tree: ast.AST
    attributes: frozenset[str]
    locals: set[str] = field(default_factory=set)

    def faults(self) -> Iterator[Fault]:
        """One for each place."""
        for scope in ast.walk(self.tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module):
                self.locals = self._set_locals(scope)
                yield from (Fault(node.lineno, "a set is gone through in its own order") for node in self._leaks(scope))

    def _set_locals(self, scope: ast.AST) -> set[str]:
        arguments = scope.args if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) else None
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs] if arguments else []
        self.locals = {each.arg for each in given if each.annotation is not None and _is_set_type(each.annotation)}
        for node in _within(scope):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if self._is_set(value):
                    self.locals.add(name)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=kind) if _is_set_type(kind):
                    self.locals.add(name)
        return self.locals

    def _leaks(self, scope: ast.AST) -> Iterator[ast.expr]:
        harmless = {id(node) for call in _within(scope) for node in _unordered_arguments(call)}
        for node in _within(scope):
            for gone_through in _gone_through(node, harmless):
                if self._is_set(gone_through):
                    yield gone_through

    def _is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self.locals
            case ast.Attribute(attr=name):
                return name in self.attributes
            case ast.IfExp(body=one, orelse=other) | ast.BoolOp(values=[one, other]):
                return self._is_set(one) or self._is_set(other)
        return self._makes_set(node)

    def _makes_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.Call(func=ast.Attribute(attr=name, value=owner)) if name in OPERATIONS:
                return self._is_set(owner)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return any(self._is_set(side) or _is_keys(side) for side in (left, right))
        return False


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a scope but those of the functions in it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _within(child)


def _unordered_arguments(call: ast.AST) -> Iterator[ast.AST]:
    match call:
        case ast.Call(func=ast.Name(id=name), args=args) if name in ORDERED:
            yield from args


def _gone_through(node: ast.AST, harmless: set[int]) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=iterated) | ast.AsyncFor(iter=iterated):
            yield iterated
        case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() if id(node) not in harmless:
            yield from (part.iter for part in node.generators)
        case ast.Call(func=ast.Name(id=name), args=args) if name in ORDER_KEPT and id(node) not in harmless:
            yield from args
        case ast.Call(func=ast.Attribute(attr="join" | "extend" | "from_iterable" | "fromkeys"), args=args):
            yield from args
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            yield from (part.value for part in parts if isinstance(part, ast.Starred))
        case ast.YieldFrom(value=value):
            yield value


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def _is_set_type(kind: ast.expr) -> bool:
    match kind:
        case ast.Name(id="set" | "frozenset" | "Set" | "AbstractSet" | "MutableSet"):
            return True
        case ast.Subscript(value=ast.Name(id="Final" | "ClassVar"), slice=inner):
            return _is_set_type(inner)
        case ast.Subscript(value=value):
            return _is_set_type(value)
        case ast.BinOp(left=left, right=right):
            return _is_set_type(left) or _is_set_type(right)
    return False
