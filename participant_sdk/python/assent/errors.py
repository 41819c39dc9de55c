"""Errors: one class tree; every error carries a stable reason and the dynamic parts of its message.

`docs/errors.md` has what each reason leaves behind and what to do about it. Act on the class, `reason` and `metadata`;
the words are for people and may change.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "assent.v1"
RPC_STATUS_KEY = "grpc-status-details-bin"
"""The trailing metadata that holds a google.rpc.Status."""


class Code(enum.IntEnum):
    """The gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Retry(enum.Enum):
    """What repeating helps."""

    NEVER = "never"
    """The same call gets the same error."""
    SAME_CALL = "same call"
    """Repeat the call unchanged after a pause; the SDK does, until its patience ends."""
    WHOLE_TRANSACTION = "whole transaction"
    """Begin a new global transaction and do the work again."""


class Reason(enum.Enum):
    """Every reason, in order of precedence, as in base/errors.h; a test compares the two."""

    def __init__(self, code: Code, retry: Retry) -> None:
        self.code = code
        self.retry = retry

    def __new__(cls, code: Code, retry: Retry) -> Reason:
        """Give every reason a value of its own, so that equal (code, retry) pairs are no aliases."""
        member = object.__new__(cls)
        member._value_ = (len(cls.__members__), code, retry)
        return member

    INVALID_GTRID = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_TIMEOUT = (Code.INVALID_ARGUMENT, Retry.NEVER)
    TOO_MANY_BRANCHES = (Code.INVALID_ARGUMENT, Retry.NEVER)
    TOO_MANY_ITEMS = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_BQUAL = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_FIELD = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_RESOURCE = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_PAGE_SIZE = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INVALID_PAGE_TOKEN = (Code.INVALID_ARGUMENT, Retry.NEVER)
    RESOURCE_NOT_FOUND = (Code.NOT_FOUND, Retry.NEVER)
    RESOURCE_EXISTS = (Code.ALREADY_EXISTS, Retry.NEVER)
    RESOURCE_IN_USE = (Code.FAILED_PRECONDITION, Retry.NEVER)
    RESOURCE_UNREACHABLE = (Code.UNAVAILABLE, Retry.SAME_CALL)
    RESOURCE_UNFIT = (Code.FAILED_PRECONDITION, Retry.NEVER)
    RESOURCE_CLAIMED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    RESOURCE_QUARANTINED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    WRONG_SERVER = (Code.FAILED_PRECONDITION, Retry.NEVER)
    SHUTTING_DOWN = (Code.UNAVAILABLE, Retry.SAME_CALL)
    OVERLOADED = (Code.UNAVAILABLE, Retry.SAME_CALL)
    TOO_MANY_OPEN_GLOBALS = (Code.RESOURCE_EXHAUSTED, Retry.SAME_CALL)
    GLOBAL_NOT_FOUND = (Code.NOT_FOUND, Retry.NEVER)
    REQUEST_ID_REUSED = (Code.ALREADY_EXISTS, Retry.NEVER)
    GTRID_IN_USE = (Code.ALREADY_EXISTS, Retry.NEVER)
    GLOBAL_ROLLED_BACK = (Code.ABORTED, Retry.WHOLE_TRANSACTION)
    GLOBAL_COMMITTED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    GLOBAL_NOT_DECIDED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    BRANCH_NOT_FOUND = (Code.NOT_FOUND, Retry.NEVER)
    BRANCH_EXISTS = (Code.ALREADY_EXISTS, Retry.NEVER)
    VOTE_CHANGED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    COMPLETION_CHANGED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    BRANCHES_NOT_PREPARED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    ETAG_MISMATCH = (Code.ABORTED, Retry.NEVER)
    RESOLUTION_REFUSED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_UNAVAILABLE = (Code.UNAVAILABLE, Retry.SAME_CALL)
    STORE_FULL = (Code.UNAVAILABLE, Retry.SAME_CALL)
    STORE_LOCKED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_READ_ONLY = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_CORRUPT = (Code.DATA_LOSS, Retry.NEVER)
    STORE_SCHEMA_NEWER = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_OTHER_CLUSTER = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_UNFIT = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_HALF_IMPORTED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_NOT_SETTLED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_DIFFERS = (Code.FAILED_PRECONDITION, Retry.NEVER)
    STORE_FILE_INVALID = (Code.INVALID_ARGUMENT, Retry.NEVER)
    INSTANCE_FENCED = (Code.UNAVAILABLE, Retry.SAME_CALL)
    COORDINATOR_UNREACHABLE = (Code.UNAVAILABLE, Retry.SAME_CALL)
    DATABASE_ERROR = (Code.ABORTED, Retry.WHOLE_TRANSACTION)
    DATABASE_UNREACHABLE = (Code.UNAVAILABLE, Retry.WHOLE_TRANSACTION)
    SESSION_IN_TRANSACTION = (Code.FAILED_PRECONDITION, Retry.NEVER)
    SESSION_HOLDS_BRANCH = (Code.FAILED_PRECONDITION, Retry.NEVER)
    SESSION_RESET = (Code.ABORTED, Retry.WHOLE_TRANSACTION)
    XA_NOT_SUPPORTED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    BRANCH_POISONED = (Code.ABORTED, Retry.WHOLE_TRANSACTION)
    BRANCH_ENDED = (Code.FAILED_PRECONDITION, Retry.NEVER)
    OUTCOME_IN_DOUBT = (Code.UNKNOWN, Retry.NEVER)

    @property
    def is_refused_by_itself(self) -> bool:
        """Refused by looking at the request alone: no attempt of the same call is ever carried out."""
        return bool(self._value_[0] < Reason.RESOURCE_NOT_FOUND._value_[0])


# Of SQLSTATE, what the same work meets again: a feature that is not there, data or a key that does not fit, an account
# that may not, a database or schema that is not there, a statement that is wrong.
_LASTING_CLASSES = frozenset({"0A", "22", "23", "28", "3D", "3F", "42"})
_REFUSED_IN_A_BRANCH = "1399"
"""What MariaDB and MySQL answer to DDL, BEGIN, …; after a verb, which has an `outcome`, it means something else."""


def _meets_it_again(metadata: Mapping[str, str]) -> bool:
    """Tell whether the same work in a new transaction would get the same error, as far as the metadata tells."""
    state = metadata.get("sqlstate", "")
    if len(state) == 5 and state[:2] in _LASTING_CLASSES:
        return True
    if metadata.get("error_code") == _REFUSED_IN_A_BRANCH and "outcome" not in metadata:
        return True
    because = Reason.__members__.get(metadata.get("because", ""))
    return because is not None and because.retry is Retry.NEVER


class AssentError(Exception):
    """Base of all errors of Assent.

    `reason` is None for what the transport refused without a reason of Assent's. `code` is the gRPC status code.
    `metadata` holds the dynamic parts of the message: gtrid, bqual, field, error_code, sqlstate, …

    `args` are what makes the error anew, in plain words: so it survives pickling (multiprocessing), and what Celery
    makes of an error in its default format, JSON.
    """

    default_reason: ClassVar[Reason | None] = None

    def __init__(
        self,
        message: str,
        reason: Reason | str | None = None,
        metadata: Mapping[str, str] | None = None,
        code: Code | int | None = None,
    ) -> None:
        """Make it. `reason` may be a name; one that this version does not know is none."""
        if isinstance(reason, str):
            reason = Reason.__members__.get(reason)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.code = Code(code) if code else self.reason.code if self.reason else Code.UNKNOWN
        super().__init__(message, self.reason.name if self.reason else None, self.metadata, int(self.code))

    @property
    def retry(self) -> Retry:
        """What repeating helps: the reason's advice; NEVER where the metadata says that the same work fails again."""
        if self.reason:
            lasts = self.reason.retry is Retry.WHOLE_TRANSACTION and _meets_it_again(self.metadata)
            return Retry.NEVER if lasts else self.reason.retry
        return Retry.SAME_CALL if self.code is Code.UNAVAILABLE else Retry.NEVER

    def __str__(self) -> str:
        """Return `CODE REASON: message`."""
        return f"{self.code.name}{' ' + self.reason.name if self.reason else ''}: {self.message}"


class InvalidRequest(AssentError):
    """Refused by looking at the request alone; nothing happened."""


class NotFound(AssentError):
    """There is no such resource, transaction or branch on record."""


class AlreadyExists(AssentError):
    """An id is taken by something else, which stays as it is."""


class FailedPrecondition(AssentError):
    """Not in this state; nothing changed."""


class ResourceExhausted(AssentError):
    """A limit is reached; nothing happened."""


class Unavailable(AssentError):
    """Somebody is away; whether the call had its effect is not known, and repeating it is safe."""


class Aborted(AssentError):
    """The transaction cannot commit, or has been rolled back: do it all again, if `retry` says that it helps."""


class ResourceNotFound(NotFound):
    """The resource is not registered: `assentctl resources register`."""

    default_reason = Reason.RESOURCE_NOT_FOUND


class GlobalNotFound(NotFound):
    """There is no record of the transaction, so it has not been decided COMMIT."""

    default_reason = Reason.GLOBAL_NOT_FOUND


class WrongServer(FailedPrecondition):
    """The connection leads to another server than the branch's resource."""

    default_reason = Reason.WRONG_SERVER


class GlobalCommitted(FailedPrecondition):
    """COMMIT has been decided, which never changes."""

    default_reason = Reason.GLOBAL_COMMITTED


class BranchesNotPrepared(FailedPrecondition):
    """Some branch of another process has not voted yet; `commit` may be called again."""

    default_reason = Reason.BRANCHES_NOT_PREPARED


class SessionInTransaction(FailedPrecondition):
    """The connection has a transaction of its own; nothing was started."""

    default_reason = Reason.SESSION_IN_TRANSACTION


class SessionHoldsBranch(FailedPrecondition):
    """The connection carries a branch already, or the branch belongs to somebody else."""

    default_reason = Reason.SESSION_HOLDS_BRANCH


class XaNotSupported(FailedPrecondition):
    """The server cannot run branches; nothing was started."""

    default_reason = Reason.XA_NOT_SUPPORTED


class BranchEnded(FailedPrecondition):
    """The branch, or its transaction, has ended here."""

    default_reason = Reason.BRANCH_ENDED


class TransactionRolledBack(Aborted):
    """Rolled back, proven or decided: nothing of it will become visible."""

    default_reason = Reason.GLOBAL_ROLLED_BACK


class DatabaseFailed(Aborted):
    """The database refused a statement; its branch is poisoned unless the error was expected.

    `__cause__` is the driver's own exception; metadata `error_code` and `sqlstate` are the database's.
    """

    default_reason = Reason.DATABASE_ERROR


class SessionReset(Aborted):
    """The connection was reset, or its transaction ended, while it held a branch; it is closed."""

    default_reason = Reason.SESSION_RESET


class BranchPoisoned(Aborted):
    """An earlier statement of the branch failed."""

    default_reason = Reason.BRANCH_POISONED


class CoordinatorUnreachable(Unavailable):
    """No instance answered until the patience ended; whether the call had its effect is not known."""

    default_reason = Reason.COORDINATOR_UNREACHABLE


class DatabaseUnreachable(Unavailable):
    """The connection to the database is lost; do the work again on a new one, never only the statement."""

    default_reason = Reason.DATABASE_UNREACHABLE


class OutcomeInDoubt(AssentError):
    """Neither committed nor rolled back as far as anybody may say; the coordinator goes on with it.

    Never do the work again before `assentctl globals get GTRID` says how it ended.
    """

    default_reason = Reason.OUTCOME_IN_DOUBT


_OF_CODE: dict[Code, type[AssentError]] = {
    Code.INVALID_ARGUMENT: InvalidRequest,
    Code.NOT_FOUND: NotFound,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.FAILED_PRECONDITION: FailedPrecondition,
    Code.RESOURCE_EXHAUSTED: ResourceExhausted,
    Code.UNAVAILABLE: Unavailable,
    Code.ABORTED: Aborted,
}


def _all_classes(base: type[AssentError]) -> list[type[AssentError]]:
    return [base, *(each for child in base.__subclasses__() for each in _all_classes(child))]


_OF_REASON: dict[Reason, type[AssentError]] = {
    each.default_reason: each for each in _all_classes(AssentError) if each.default_reason
}


def class_of(reason: Reason | None, code: Code) -> type[AssentError]:
    """Return the class that errors of this reason, or without one of this code, have."""
    if reason in _OF_REASON:
        return _OF_REASON[reason]
    return _OF_CODE.get(reason.code if reason else code, AssentError)


def make_error(
    reason: Reason, message: str, metadata: Mapping[str, str] | None = None, cause: BaseException | None = None
) -> AssentError:
    """Return an error of the reason's class. `cause` becomes its `__cause__`."""
    error = class_of(reason, reason.code)(message, reason=reason, metadata=metadata)
    error.__cause__ = cause
    return error


def from_rpc_status(status: status_pb2.Status) -> AssentError:
    """Return the error that a google.rpc.Status describes."""
    code = Code(status.code) if status.code in Code._value2member_map_ else Code.UNKNOWN
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Reason.__members__:
            reason = Reason[info.reason]
            return class_of(reason, code)(status.message, reason=reason, metadata=dict(info.metadata))
    return class_of(None, code)(status.message, code=code)


def to_rpc_status(error: AssentError) -> status_pb2.Status:
    """Return the google.rpc.Status that `from_rpc_status` reads."""
    status = status_pb2.Status(code=int(error.code), message=error.message)
    if error.reason:
        info = error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=error.metadata)
        status.details.add().Pack(info)
    return status


def from_rpc_error(error: grpc.RpcError) -> AssentError:
    """Return what a failed call says, with the reason and metadata if the coordinator gave them."""
    code = Code(error.code().value[0])
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == RPC_STATUS_KEY:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except Exception:
                break
            if status.code == code:
                return from_rpc_status(status)
    return class_of(None, code)(error.details() or code.name, code=code)


CLIENT_CLOSED = "the client has been closed"


def is_retryable(error: BaseException) -> bool:
    """Tell whether repeating the very same call may help."""
    is_closed = isinstance(error, CoordinatorUnreachable) and error.message == CLIENT_CLOSED
    return isinstance(error, AssentError) and error.retry is Retry.SAME_CALL and not is_closed
