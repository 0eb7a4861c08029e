"""Requests whose headers are wrong in every way that a parser lets through, for all our HTTP ports."""

from collections.abc import Iterator

HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Disposition", "Content-Encoding",
    "Content-Length", "Content-Range", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "If-Match",
    "If-Modified-Since", "If-None-Match", "If-Range", "Last-Event-ID", "Origin", "Range", "Referer",
    "Sec-Fetch-Site", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version", "Transfer-Encoding", "Tus-Resumable", "Upgrade", "Upload-Checksum", "Upload-Length",
    "Upload-Metadata", "Upload-Offset", "User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
)  # fmt: skip
VALUES = (
    b"", b"\xff\xfe", b"\xed\xa0\x80", b"a\0b", "ключ".encode(), "\u202e".encode(), b"\t", b"x" * 6000, b'"',
    b"=?utf-8?q?=ff?=", b"a,b;c=d, ,;=",
    b"[::1", b"http://[", b"1" * 5000, b"-1", b"bytes=0-,5-,-1", b"Bearer ", b"Bearer eyJ.eyJ.x", b"Basic \xff",
    b"charset=nonsense", b"text/plain; charset=nonsense", b"multipart/form-data; boundary=", b"*", b"%00%ff",
    b"W/\"\"", b"Thu, 99 Foo 0000 99:99:99 GMT",
)  # fmt: skip

UPGRADE = (
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Version: 13",
)  # fmt: skip


def requests(method: str, target: str, *headers: bytes, host: bytes = b"x", body: bytes = b"") -> Iterator[bytes]:
    """The request with each header in place of its own, and beside it, with each value."""
    own = (b"Host: " + host, *headers, *((b"Content-Length: %d" % len(body),) if body else ()))
    first = f"{method} {target} HTTP/1.1".encode()
    for name in map(str.encode, HEADERS):
        others = [line for line in own if not line.lower().startswith(name.lower() + b":")]
        for value in VALUES:
            yield b"\r\n".join((first, *others, name + b": " + value, b"", b"")) + body
        for twice in (set(own) - set(others)) or {name + b": x"}:
            yield b"\r\n".join((first, *others, twice, twice, b"", b"")) + body
            yield b"\r\n".join((first, *others, twice, name + b": \xff", b"", b"")) + body
