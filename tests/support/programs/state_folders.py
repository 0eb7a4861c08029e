"""State folders as JSON, to be kept as data of tests, and back; and what tells that a folder is unchanged."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import apsw

SQLITE = b"SQLite format 3\0"

Names = Mapping[str, str]
"""What differs from run to run, such as an address, by the placeholder that stands for it."""


def taken(folder: Path, names: Names) -> dict[str, Any]:
    """The files in a folder: a text, or the tables of a SQLite file with the commits in its log."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    kept = [path for path in files if not path.name.endswith(("-wal", "-shm"))]
    return {path.relative_to(folder).as_posix(): _plain(path, names) for path in kept}


def _plain(path: Path, names: Names) -> Any:
    content = path.read_bytes()
    if content.startswith(SQLITE):
        return _tables(path, names)
    try:
        return _with(content.decode(), {value: name for name, value in names.items()})
    except UnicodeDecodeError:
        return {"hex": content.hex()}


def _tables(path: Path, names: Names) -> dict[str, Any]:
    back = {value: name for name, value in names.items()}
    db = apsw.Connection(str(path))
    schema = [list(row) for row in db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")]
    tables = [name for name, sql in schema if sql.startswith("CREATE TABLE")]
    rows = {
        name: [[_with(v.decode(), back) if isinstance(v, bytes) else v for v in row] for row in _all(db, name)]
        for name in tables
    }
    found = {"user_version": db.execute("PRAGMA user_version").get, "schema": [sql for _, sql in schema], "rows": rows}
    db.close()
    return found


def _all(db: apsw.Connection, table: str) -> Iterable[Any]:
    return db.execute(f"SELECT * FROM {table}")  # noqa: S608 - its own name


def _with(text: str, names: Names) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def put(files: Mapping[str, Any], folder: Path, names: Names) -> None:
    """Write the files of `taken` into a folder. A SQLite file has its last commits in its log, as after a kill."""
    for name, plain in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if isinstance(plain, str):
            path.write_text(_with(plain, names))
        elif "hex" in plain:
            path.write_bytes(bytes.fromhex(plain["hex"]))
        else:
            _put_tables(plain, path, names)


def _put_tables(plain: Mapping[str, Any], path: Path, names: Names) -> None:
    db = apsw.Connection(str(path))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    for sql in plain["schema"]:
        db.execute(sql)
    db.execute(f"PRAGMA user_version = {plain['user_version']}")
    for table, rows in plain["rows"].items():
        kinds = [kind for _, _, kind, *_ in db.execute(f"PRAGMA table_info({table})")]
        for row in rows:
            values = [_with(v, names).encode() if kind == "BLOB" else v for kind, v in zip(kinds, row, strict=True)]
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", values)  # noqa: S608 - as above
    db.close()


def digests(folder: Path) -> dict[str, str]:
    """The content of each file in a folder, the logs of SQLite files included, and the folders in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }
