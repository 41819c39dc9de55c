"""Assent commits one transaction across several databases: all of it becomes visible, or none of it does.

This package is the participant SDK: it runs the branches beside your own SQL, votes, and finishes each branch on the
connection that prepared it. `assent.client` is the sync client, `assent.aio` the asyncio one.
"""

from assent.client import Branch, BranchCursor, Client, Transaction
from assent.errors import (
    Aborted,
    AlreadyExists,
    AssentError,
    BranchEnded,
    BranchesNotPrepared,
    BranchPoisoned,
    Code,
    CoordinatorUnreachable,
    DatabaseFailed,
    DatabaseUnreachable,
    FailedPrecondition,
    GlobalCommitted,
    GlobalNotFound,
    InvalidRequest,
    NotFound,
    OutcomeInDoubt,
    Reason,
    ResourceExhausted,
    ResourceNotFound,
    Retry,
    SessionHoldsBranch,
    SessionInTransaction,
    SessionReset,
    TransactionRolledBack,
    Unavailable,
    WrongServer,
    XaNotSupported,
)
from assent.hooks import Hooks
from assent.options import BeginOptions, ClientOptions, DecisionPolicy, TransactionOutcome
from assent.propagation import current_transaction
from assent.xid import Xid

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AssentError",
    "BeginOptions",
    "Branch",
    "BranchCursor",
    "BranchEnded",
    "BranchPoisoned",
    "BranchesNotPrepared",
    "Client",
    "ClientOptions",
    "Code",
    "CoordinatorUnreachable",
    "DatabaseFailed",
    "DatabaseUnreachable",
    "DecisionPolicy",
    "FailedPrecondition",
    "GlobalCommitted",
    "GlobalNotFound",
    "Hooks",
    "InvalidRequest",
    "NotFound",
    "OutcomeInDoubt",
    "Reason",
    "ResourceExhausted",
    "ResourceNotFound",
    "Retry",
    "SessionHoldsBranch",
    "SessionInTransaction",
    "SessionReset",
    "Transaction",
    "TransactionOutcome",
    "TransactionRolledBack",
    "Unavailable",
    "WrongServer",
    "XaNotSupported",
    "Xid",
    "current_transaction",
]
