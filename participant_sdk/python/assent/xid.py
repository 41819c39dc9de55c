"""Names of transactions: what a gtrid and a bqual may look like, and how they are written for each engine.

An XA xid is (format id, gtrid, bqual). Both ids are 1 to 64 bytes of [A-Za-z0-9._:-], checked before any SQL is
written.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from typing import NamedTuple

from assent.errors import AssentError, Reason, make_error

FORMAT_ID = 0x41534E54
"""`ASNT` as a big-endian integer. Never changes: recovery knows our branches by it."""
MAX_ID_BYTES = 64

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z", re.ASCII)
_BAD = re.compile(rb"[^A-Za-z0-9._:-]")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32.
_ULID_SIZE = 26
_ULID_TIME_SIZE = 10
GTRID_BLOCK_SIZE = 1 << 20
_BLOCK_DIGITS = 4


class Xid(NamedTuple):
    """The name of a branch."""

    gtrid: str
    bqual: str


def is_valid_id(text: str) -> bool:
    """Tell whether it is 1 to 64 bytes of [A-Za-z0-9._:-]."""
    return _ID.match(text) is not None


def _check(text: str, reason: Reason, field: str) -> AssentError | None:
    if isinstance(text, str) and is_valid_id(text):
        return None
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else b""
    if not isinstance(text, str):
        problem = f"is no str but {type(text).__name__}"
    elif not raw:
        problem = "is empty"
    elif len(raw) > MAX_ID_BYTES:
        problem = f"has {len(raw)} bytes"
    else:
        bad = _BAD.search(raw)
        assert bad is not None
        problem = f"has the byte 0x{raw[bad.start()]:02x} at position {bad.start()}"
    return make_error(
        reason,
        f"{field} {problem}; it must be 1 to 64 bytes of [A-Za-z0-9._:-]",
        {"field": field, "problem": problem},
    )


def check_gtrid(gtrid: str) -> AssentError | None:
    """Return INVALID_GTRID, in words that never repeat the bytes; None if it is valid."""
    return _check(gtrid, Reason.INVALID_GTRID, "gtrid")


def check_bqual(bqual: str) -> AssentError | None:
    """Return INVALID_BQUAL; None if it is valid."""
    return _check(bqual, Reason.INVALID_BQUAL, "bqual")


def xid_sql_literal(xid: Xid) -> str:
    """Return `X'<gtrid>',X'<bqual>',<format id>` of a valid xid; hexadecimal, so that no byte needs quoting."""
    return f"X'{xid.gtrid.encode().hex()}',X'{xid.bqual.encode().hex()}',{FORMAT_ID}"


def gid_of(xid: Xid) -> str:
    """Return PostgreSQL's name of a valid xid."""
    return f"{FORMAT_ID}/{xid.gtrid}/{xid.bqual}"


def branch_lock_of(xid: Xid) -> int:
    """Return the key of the advisory lock that a branch holds on PostgreSQL while it is active: FNV-1a, as an int32."""
    value = 2166136261
    for byte in f"{xid.gtrid}/{xid.bqual}".encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def gtrid_of_block(block: str, index: int) -> str:
    """Return the id of that number, 0 to GTRID_BLOCK_SIZE - 1, in a block of ReserveGtrids."""
    digits = "".join(_ALPHABET[index >> shift & 31] for shift in range(5 * (_BLOCK_DIGITS - 1), -1, -5))
    return block + digits


def new_gtrid(cluster: str, unix_ms: int | None = None) -> str:
    """Return `<cluster>-<ULID>`: 48 bits of milliseconds and 80 random ones."""
    value = (int(time.time() * 1000) if unix_ms is None else unix_ms) << 80 | int.from_bytes(os.urandom(10), "big")
    ulid = "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
    return f"{cluster}-{ulid}"


def birth_of(gtrid: str) -> int | None:
    """Return when such an id was made, in milliseconds since 1970; None if it is no such id."""
    _, dash, ulid = gtrid.partition("-")
    if not dash or len(ulid) != _ULID_SIZE:
        return None
    digits = [_ALPHABET.find(digit) for digit in ulid]
    if min(digits) < 0 or digits[0] > 7:
        return None
    ms = 0
    for digit in digits[:_ULID_TIME_SIZE]:
        ms = ms << 5 | digit
    return ms


def new_request_id() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())
