"""Deliveries of a message that may come twice: who may do its work, and how an attempt at it is taken back."""

from __future__ import annotations

from assent._core import two_phase
from assent._core.effects import Call, Core
from assent._core.transaction import TransactionCore
from assent.errors import BranchPoisoned
from assent.options import TransactionOutcome
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb
from assent.xid import new_request_id


def claim(core: TransactionCore, bqual: str, resource: str) -> Core[None]:
    """Create the branch of that name. Nobody else can: BRANCH_EXISTS, or GLOBAL_COMMITTED once that is decided.

    The first branch to be opened on the resource is this one; if none is, it votes READ_ONLY with the others.
    """
    request = pb.CreateBranchesRequest(gtrid=core.gtrid, request_id=new_request_id())
    request.branches.add(bqual=bqual, resource=resource)
    response: pb.CreateBranchesResponse = yield Call("CreateBranches", request, core._options.call_patience)
    core._created.append(response.branches[0])


def owe(core: TransactionCore, bqual: str) -> None:
    """Vote READ_ONLY for that branch, too, which somebody has created and nobody opens."""
    core._created.append(gpb.Branch(bqual=bqual))


def withdraw(core: TransactionCore, owed: str) -> Core[None]:
    """Undo what was done here and vote READ_ONLY for it, but not for what is owed: somebody else is to do the work.

    Without an exception nothing of it can become visible any more, and the transaction may commit without it.
    """
    core._check_owner()
    core._ended = True
    yield from two_phase.roll_back_unvoted(core.branches)
    if not two_phase.all_finished(core.branches):
        raise BranchPoisoned(
            "what was done cannot be proven undone: the connection of its branch was lost or reset",
            metadata={"gtrid": core.gtrid},
        )
    bquals = [branch.xid.bqual for branch in core.branches] + [made.bqual for made in core._created]
    request = pb.PreparedRequest(gtrid=core.gtrid, wait=pb.WAIT_NONE)
    request.votes.extend(pb.Vote(bqual=bqual, kind=gpb.VOTE_KIND_READ_ONLY) for bqual in bquals if bqual != owed)
    yield Call("Prepared", request, core._options.call_patience)
    core._end(TransactionOutcome.ROLLED_BACK)
