"""TransactionCore: a global transaction as one process sees it (participant_sdk/cpp/global_transaction.cc)."""

from __future__ import annotations

import logging
import time

from assent._core import one_phase, two_phase
from assent._core.branch import BranchCore, Stage
from assent._core.effects import Call, Core, Report
from assent._core.reservation import AGE_HOLDS, Reservation, terms_of
from assent._core.session import Session, State, WitnessTable, wrong_server
from assent._core.verdict import Verdict, verdict_of
from assent.errors import (
    CLIENT_CLOSED,
    Aborted,
    AssentError,
    BranchEnded,
    GlobalCommitted,
    OutcomeInDoubt,
    Reason,
    SessionHoldsBranch,
    is_retryable,
    make_error,
)
from assent.hooks import Hooks
from assent.options import ClientOptions, TransactionOutcome
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb
from assent.xid import Xid, new_request_id

logger = logging.getLogger("assent")

# The end of a scope does not wait for long: what it could not tell the coordinator ends by its deadline.
SCOPE_PATIENCE = 5.0
_MAX_REASON_BYTES = 1000
_MAX_SOLE_BRANCHES = 1000
_COMMIT = gpb.DECISION_COMMIT
_ROLLBACK = gpb.DECISION_ROLLBACK
# As hooks are told them.
_VOTE_NAMES = {number: name.removeprefix("VOTE_KIND_") for name, number in gpb.VoteKind.items()}
_DECISION_NAMES = {number: name.removeprefix("DECISION_") for name, number in gpb.Decision.items()}
_RESULT_NAMES = {number: name.removeprefix("RESULT_") for name, number in pb.Completion.Result.items()}


class TransactionCore:
    """The state of a transaction and its generators. One user at a time."""

    def __init__(
        self,
        options: ClientOptions,
        hooks: Hooks,
        reservation: Reservation,
        gtrid: str,
        *,
        policy: int = gpb.DECISION_POLICY_UNSPECIFIED,
        joined: bool = False,
        sole: bool = False,
        one_phase_commit: bool = False,
        timeout: float = 0.0,
        created: list[gpb.Branch] | None = None,
    ) -> None:
        self.gtrid = gtrid
        self.joined = joined
        self.outcome = TransactionOutcome.UNSPECIFIED
        self.branches: list[BranchCore] = []
        self.concluded = False
        self.is_over = False
        """Nothing of it is on any connection here any more."""
        self.is_part = False
        """Leaving its block votes; see Client.take_part."""
        self.untold: AssentError | None = None
        """Why the end of its scope did not roll it back: it is in doubt, or somebody had committed it."""
        self._options = options
        self._hooks = hooks
        self._reservation = reservation
        self._policy = policy
        self._sole = sole
        self._may_end_in_one_phase = sole and one_phase_commit
        self._one_phase: BranchCore | None = None
        """Was told to commit in one phase, and is not known to have failed."""
        self._timeout = timeout
        self._begun = time.monotonic()
        self._created = created or []
        self._refused: dict[str, AssentError] = {}
        self._ended = False
        self._left = False
        self._handed_over = False
        self._rollback_patience = options.call_patience
        self._result: AssentError | None = None
        if not joined:
            hooks.on_global_created(gtrid, sole)

    # -- branches

    def refuse(self, resource: str, error: AssentError) -> None:
        """Take down that no branch could be opened there: what was to be done there is not, so nothing may commit."""
        self._refused[resource] = error

    def open_branch(self, resource: str, session: Session) -> Core[BranchCore]:
        """Make a branch; see Transaction.branch."""
        if self._ended:
            raise BranchEnded(
                f"global transaction '{self.gtrid}' has ended here; begin a new one", metadata={"gtrid": self.gtrid}
            )
        try:
            branch = yield from self._make_branch(resource, session)
        except AssentError as error:
            self.refuse(resource, error)
            raise
        self._refused.pop(resource, None)
        self.branches.append(branch)
        self._hooks.on_branch_created(self.gtrid, branch.xid.bqual, resource)
        return branch

    def _make_branch(self, resource: str, session: Session) -> Core[BranchCore]:
        if session.state is not State.NONE or any(branch.session is session for branch in self.branches):
            raise SessionHoldsBranch(
                "the session carries a branch already: a session runs one branch at a time, and must not be reused "
                "before that one is finished",
                metadata={"gtrid": session.xid.gtrid, "bqual": session.xid.bqual},
            )
        made = yield from self._describe_branch(resource, session)
        if error := wrong_server(session.describe(), made.resource, made.server, made.timeline):
            # For the right session; or it is voted on, or rolled back, as unused.
            if not self._sole:
                self._created.append(made)
            raise error
        witness = WitnessTable.parse(made.witness_table) if made.witness_table else None
        return BranchCore(Xid(self.gtrid, made.bqual), made.resource, witness, session)

    def _describe_branch(self, resource: str, session: Session) -> Core[gpb.Branch]:
        patience = self._options.call_patience
        if self._sole:
            if len(self.branches) >= _MAX_SOLE_BRANCHES:
                raise make_error(
                    Reason.TOO_MANY_BRANCHES,
                    f"a global transaction has at most {_MAX_SOLE_BRANCHES} branches",
                    {"gtrid": self.gtrid, "limit": str(_MAX_SOLE_BRANCHES)},
                )
            terms = yield from terms_of(self._reservation, resource, patience)
            return gpb.Branch(
                bqual=f"b{len(self.branches) + 1}",
                resource=terms.resource,
                witness_table=terms.witness_table,
                server=terms.server,
                timeline=terms.timeline,
            )
        for index, made in enumerate(self._created):
            if made.resource == resource:
                return self._created.pop(index)
        request = pb.CreateBranchesRequest(gtrid=self.gtrid, request_id=new_request_id())
        request.branches.add(resource=resource, session=session.describe())
        response: pb.CreateBranchesResponse = yield Call("CreateBranches", request, patience)
        return response.branches[0]

    # -- the ends

    def commit(self) -> Core[None]:
        """See Transaction.commit."""
        finalize = self._policy != gpb.DECISION_POLICY_WHEN_ALL_PREPARED
        yield from self._decide(finalize=finalize, all_branches=True)

    def prepare(self) -> Core[None]:
        """See Transaction.prepare."""
        yield from self._decide(finalize=False, all_branches=False)

    def leave(self) -> None:
        """See Transaction.leave."""
        self._left = True

    @property
    def is_sole(self) -> bool:
        """See Transaction.is_sole."""
        return self._sole

    def vote(self) -> Core[bool]:
        """See Transaction.vote. True: undecided, so that `decision` and `finish_voted` are to follow by themselves."""
        if self._is_answered() or self._handed_over:
            return False
        if self._one_phase:
            yield from self._await_one_phase()
            self._is_answered()
            return False
        votes = yield from self._votes_now()
        answer = yield from self._send_votes(self._vote_call(votes, pb.WAIT_NONE))
        verdict = verdict_of(answer)
        if not isinstance(answer, AssentError) and verdict.decision == gpb.DECISION_UNSPECIFIED:
            return True
        yield from self._conclude(verdict, all_branches=False)
        self._is_answered()
        return False

    @property
    def is_handed_over(self) -> bool:
        """Tell whether `hand_over` was called."""
        return self._handed_over

    def hand_over(self) -> None:
        """From now on whoever runs `finish_voted` ends it, and not the end of the scope."""
        self._handed_over = True

    def decision(self) -> Core[Verdict]:
        """After `vote`: wait for the decision. Touches nothing, so that others may end it meanwhile."""
        request = pb.PreparedRequest(gtrid=self.gtrid, wait=pb.WAIT_DECIDED)
        try:
            return verdict_of((yield Call("Prepared", request, self._options.decision_patience, waits=True)).status)
        except AssentError as error:
            return verdict_of(error)

    def finish_voted(self, verdict: Verdict) -> Core[None]:
        """Finish the branches as decided, unless somebody has. `abandon` must follow."""
        if self.concluded:
            return
        try:
            yield from self._conclude(verdict, all_branches=False)
        except OutcomeInDoubt as error:
            logger.warning("gtrid=%s after the vote: %s", self.gtrid, error)

    def leave_block(self) -> Core[bool]:
        """Do what leaving its block without an exception does; results as `vote`."""
        if self._left or self._handed_over:
            return False
        if self.is_part:
            # Rolled back in the block: nobody may be told that it went well.
            has_part = self.concluded or self.branches or self._refused or self._created
            return bool(has_part) and (yield from self.vote())
        if not self.concluded:
            yield from self.prepare() if self.joined else self.commit()
        return False

    def fail_block(self, error: BaseException) -> Core[None]:
        """Do what an exception that leaves its block does, before `close`. Of a part: everything is rolled back."""
        if not self.is_part or not isinstance(error, Exception):
            return
        self._rollback_patience = SCOPE_PATIENCE
        try:
            yield from self.rollback(f"the handler failed: {type(error).__name__}")
        except AssentError as why:
            logger.warning("gtrid=%s rollback after a failed handler: %s", self.gtrid, why)

    def _is_answered(self) -> bool:
        """Tell whether it has ended; raise what it has ended with, if that is an error."""
        if self.concluded and self._result:
            raise self._result
        return self.concluded

    def _begin_end(self) -> Core[None]:
        """From now on nothing is added; or raise that what was to be done could not even begin."""
        self._check_owner()
        if self._reservation.is_closed and not two_phase.awaits_decision(self.branches):
            yield from self.rollback(CLIENT_CLOSED)  # Before anything is prepared that nobody could decide. Raises.
        for resource, error in self._refused.items():
            yield from self._roll_back_because(f"no branch could be opened on '{resource}': {error.message}", error)
        self._ended = True

    def _votes_now(self) -> Core[list[pb.Vote]]:
        """Prepare, and collect the votes; or raise that it came to nothing."""
        yield from self._begin_end()
        return (yield from self._prepare(self.branches))

    def _prepare(self, branches: list[BranchCore]) -> Core[list[pb.Vote]]:
        """Collect the votes of these, and of what nobody opened; or raise that it came to nothing."""
        votes = yield from two_phase.prepare(branches)
        for branch in branches:
            if branch.vote and not branch.told:
                branch.told = True
                self._hooks.on_branch_prepared(self.gtrid, branch.xid.bqual, _VOTE_NAMES[branch.vote.kind])
        # What nobody opened has done nothing.
        votes += [pb.Vote(bqual=unused.bqual, kind=gpb.VOTE_KIND_READ_ONLY) for unused in self._created]
        if any(vote.kind == gpb.VOTE_KIND_FAILED for vote in votes):
            yield from self._failed_to_prepare(votes)
        return votes

    def _vote_call(self, votes: list[pb.Vote], wait: pb.Wait) -> Core[gpb.GlobalStatus]:
        request = pb.PreparedRequest(gtrid=self.gtrid, votes=votes, wait=wait)
        response: pb.PreparedResponse = yield Call("Prepared", request, self._options.decision_patience, waits=True)
        return response.status

    def _commit_call(self, votes: list[pb.Vote]) -> Core[gpb.GlobalStatus]:
        give_up = time.monotonic() + self._options.decision_patience
        told = False
        while True:
            request = self._finalize_with(_COMMIT)
            request.votes.extend(votes)
            patience = max(0.0, give_up - time.monotonic())
            if self._sole:  # What creates it says how old it is, which must stay true while nobody answers.
                patience = min(patience, AGE_HOLDS)
            try:
                response: pb.FinalizeResponse = yield Call("Finalize", request, patience, waits=True)
                return response.status
            except AssentError as error:
                if not self._sole or not is_retryable(error) or time.monotonic() >= give_up:
                    raise
                if not told:
                    told = True
                    logger.warning(
                        "gtrid=%s is prepared and holds its locks, and the coordinator does not answer; asking for "
                        "%.0f s more: %s",
                        self.gtrid,
                        give_up - time.monotonic(),
                        error,
                    )

    def _send_votes(self, sending: Core[gpb.GlobalStatus]) -> Core[gpb.GlobalStatus | AssentError]:
        """Send them; results in what is known of the decision. Raises that they were not counted."""
        fresh = two_phase.mark_voted(self.branches)
        self._hooks.on_voted(self.gtrid)
        try:
            return (yield from sending)
        except AssentError as error:
            answer = error
        is_void = self._sole and answer.reason is not None and answer.reason.is_refused_by_itself
        if not is_void and answer.reason not in (Reason.BRANCHES_NOT_PREPARED, Reason.WRONG_SERVER):
            return answer
        # Nothing of this call was counted, so what voted in it for the first time may still be rolled back. A vote that
        # an earlier call may have brought stays out.
        for branch in fresh:
            branch.voted = False
        if answer.reason is Reason.WRONG_SERVER:
            yield from self._roll_back_because(answer.message, answer)
        if is_void:  # It has not been decided, and never will be.
            yield from self._report((yield from self._roll_back_unvoted()))
            self._result = answer
            finished = two_phase.all_finished(self.branches)
            self._end(TransactionOutcome.ROLLED_BACK if finished else TransactionOutcome.IN_DOUBT)
        raise answer

    def _decide(self, finalize: bool, all_branches: bool) -> Core[None]:
        if self._is_answered():
            return
        if self._one_phase or (finalize and (yield from self._commits_in_one_phase())):
            yield from self._await_one_phase()
            self._is_answered()
            return
        votes = yield from self._votes_now()
        if finalize:
            answer = yield from self._send_votes(self._commit_call(votes))
        else:
            answer = yield from self._send_votes(self._vote_call(votes, pb.WAIT_DECIDED))
        # What it was run on counts no more, perhaps.
        if not isinstance(answer, AssentError) and answer.cause == gpb.DECISION_CAUSE_REFUSED:
            self._reservation.forget()
        yield from self._conclude(verdict_of(answer), all_branches)
        self._is_answered()

    def _finalize_with(self, decision: gpb.Decision) -> pb.FinalizeRequest:
        request = pb.FinalizeRequest(gtrid=self.gtrid, decision=decision, wait=pb.WAIT_DECIDED)
        if self._sole:  # With COMMIT the sessions come with the votes.
            self._bring_whole(request.create, with_sessions=decision == _ROLLBACK)
        return request

    def _bring_whole(self, create: pb.NewGlobal, with_sessions: bool) -> None:
        create.age.FromMicroseconds(int((time.monotonic() - self._begun) * 1e6))
        if self._timeout:
            create.timeout.FromMicroseconds(int(self._timeout * 1e6))
        for branch in self.branches:
            spec = create.branches.add(bqual=branch.xid.bqual, resource=branch.resource)
            if with_sessions:
                spec.session.CopyFrom(branch.session.describe())
            if branch.witness:
                spec.witness_table = branch.witness.name

    # -- one phase (docs/decisions/0012-one-phase-commit.md)

    def _commits_in_one_phase(self) -> Core[bool]:
        """Commit in one phase if that will do; False if not. Raises that it failed."""
        # Past its timeout, the coordinator says so.
        if not self._may_end_in_one_phase or (self._timeout and time.monotonic() - self._begun >= self._timeout):
            return False
        yield from self._begin_end()
        writer = yield from one_phase.only_writer(self.branches)
        if writer is None:
            return False
        yield from self._prepare([branch for branch in self.branches if branch is not writer])
        if writer.poison:  # Meanwhile.
            return False
        # Before it: from now on nobody may say that it was rolled back but its database.
        self._one_phase = writer
        ended = yield from one_phase.commit(writer)
        if ended is one_phase.End.COMMITTED:
            self._hooks.on_decided(self.gtrid, _DECISION_NAMES[_COMMIT])
            yield from self._report([self._one_phase_report(pb.Completion.RESULT_COMMITTED)])
            self._end(TransactionOutcome.COMMITTED)
        elif ended is one_phase.End.FAILED:
            self._one_phase = None
            yield from self._prepare(self.branches)
        return True

    def _one_phase_report(self, result: pb.Completion.Result) -> pb.Completion:
        assert self._one_phase is not None
        report = two_phase.make_completion(self._one_phase, result)
        self._bring_whole(report.create, with_sessions=result == pb.Completion.RESULT_UNKNOWN)
        return report

    def _await_one_phase(self) -> Core[None]:
        """After a lost answer: have the coordinator look how it ended. OUTCOME_IN_DOUBT: not known yet; repeat."""
        if self.concluded:
            return
        lost = "it was to be committed in one phase, and the answer of its database was lost"
        assert self._one_phase is not None
        if self._one_phase.stage is Stage.IN_DOUBT:  # Perhaps interrupted before it was closed: nobody could look.
            self._one_phase.session.shutdown()
        try:
            seen = yield from one_phase.ask_how_it_ended(
                lambda: self._one_phase_report(pb.Completion.RESULT_UNKNOWN), self._options.decision_patience
            )
        except AssentError as error:
            raise self._in_doubt(f"{lost}; not known yet what that did: {error.message}", error) from error
        if seen.outcome == gpb.OUTCOME_COMMITTED:
            self._hooks.on_decided(self.gtrid, _DECISION_NAMES[_COMMIT])
            self._end(TransactionOutcome.COMMITTED)
        elif seen.outcome == gpb.OUTCOME_ROLLED_BACK:
            metadata = {"gtrid": self.gtrid, "cause": gpb.DecisionCause.Name(seen.cause)}
            self._result = make_error(
                Reason.GLOBAL_ROLLED_BACK, f"rolled back: {lost}, which has not done it", metadata
            )
            self._hooks.on_decided(self.gtrid, _DECISION_NAMES[_ROLLBACK])
            self._end(TransactionOutcome.ROLLED_BACK)
        else:
            raise self._in_doubt(f"{lost}, which has not been seen yet: {gpb.Global.State.Name(seen.state)}")

    # -- rollbacks

    def _roll_back_because(self, why: str, cause: AssentError) -> Core[None]:
        """What was wanted cannot be committed: roll back, and raise why."""
        yield from self.rollback(why)
        metadata = {"gtrid": self.gtrid, "cause": gpb.DecisionCause.Name(gpb.DECISION_CAUSE_FINALIZE)}
        if cause.reason:
            metadata["because"] = cause.reason.name
        self._result = make_error(Reason.GLOBAL_ROLLED_BACK, f"rolled back: {why}", metadata, cause)
        raise self._result

    def _failed_to_prepare(self, votes: list[pb.Vote]) -> Core[None]:
        """Some vote is FAILED: roll the others back, tell the coordinator, raise the error behind the failed vote."""
        # COMMIT cannot be decided without our votes, so the locks of the others go first.
        completions = yield from self._roll_back_unvoted()
        failed = [vote for vote in votes if vote.kind == gpb.VOTE_KIND_FAILED]
        try:
            if self._sole:
                finalize = self._finalize_with(_ROLLBACK)
                finalize.votes.extend(failed)
                yield Call("Finalize", finalize, self._rollback_patience, waits=True)
            else:
                request = pb.PreparedRequest(gtrid=self.gtrid, votes=failed, wait=pb.WAIT_NONE)
                yield Call("Prepared", request, self._rollback_patience)
        except AssentError as error:
            # The vote may not have arrived. The proofs behind it say the same, and they are offered until taken.
            logger.warning("gtrid=%s FAILED vote not confirmed: %s", self.gtrid, error)
            completions += [self._rolled_back(vote.bqual) for vote in votes if vote.rolled_back]
        yield from self._report(completions)
        poison = next(branch.poison for branch in self.branches if branch.poison)
        # Whatever the database's error was, the transaction is rolled back.
        if isinstance(poison, Aborted):
            self._result = poison
        else:
            self._result = make_error(
                Reason.GLOBAL_ROLLED_BACK, f"rolled back: {poison.message}", poison.metadata, poison
            )
        finished = two_phase.all_finished(self.branches)
        self._end(TransactionOutcome.ROLLED_BACK if finished else TransactionOutcome.IN_DOUBT)
        reset = self._reset_branch()
        if reset and reset.session.ran_outside:  # Doing it all again would do that part twice.
            self._result = self._not_finished("ROLLBACK")
        raise self._result

    def rollback(self, reason: str = "") -> Core[None]:
        """See Transaction.rollback."""
        if self._one_phase:
            yield from self._await_one_phase()
        if self.concluded:
            if self.outcome is TransactionOutcome.COMMITTED:
                raise self._committed()
            if self.outcome is TransactionOutcome.ROLLED_BACK or self._result is None:
                return
            raise self._result
        self._check_owner()
        self._ended = True
        completions = yield from self._roll_back_unvoted()
        request = self._finalize_with(_ROLLBACK)
        request.reason = two_phase.cut(reason or "rolled back by the application", _MAX_REASON_BYTES)
        try:
            answer: gpb.GlobalStatus | AssentError = (
                yield Call("Finalize", request, self._rollback_patience, waits=True)
            ).status
        except AssentError as error:
            answer = error
        verdict = verdict_of(answer)
        yield from self._report(completions)  # Also if nobody answered: they say the same.
        if verdict.decision == gpb.DECISION_UNSPECIFIED:
            assert verdict.why is not None
            raise verdict.why  # May be called again.
        yield from self._conclude(verdict, all_branches=False)
        if verdict.decision == _COMMIT:
            raise verdict.why or self._committed()
        if isinstance(self._result, OutcomeInDoubt):
            raise self._result

    def _committed(self) -> AssentError:
        return make_error(
            Reason.GLOBAL_COMMITTED,
            f"global transaction '{self.gtrid}' has been committed; it cannot be rolled back",
            {"gtrid": self.gtrid},
        )

    def close(self) -> Core[None]:
        """End of scope: without a decision it rolls back, and nothing that is prepared stays on a connection."""
        if not self._is_owner():
            return  # A forked process: all of it is its parent's.
        try:
            if not self.concluded:
                if self._left:
                    self._created = []  # Whoever it was left to may have taken them up.
                nothing_here = (self.joined or self._sole) and not self.branches
                if self._one_phase:
                    if not self.is_over:
                        yield Report([self._one_phase_report(pb.Completion.RESULT_UNKNOWN)], awaited=True)
                        self.untold = self._in_doubt("it was to be committed in one phase, and that was interrupted")
                        self._tell_outcome()
                elif self._left or nothing_here or two_phase.awaits_decision(self.branches):
                    # While a vote is out only the decision finishes that branch, and asking for one could take long.
                    yield from self._report((yield from self._roll_back_unvoted()))
                else:
                    self._rollback_patience = SCOPE_PATIENCE
                    try:
                        yield from self.rollback("left its scope without a decision")
                    except AssentError as error:
                        logger.warning("gtrid=%s rollback at the end of scope: %s", self.gtrid, error)
                        if isinstance(error, OutcomeInDoubt | GlobalCommitted):
                            self.untold = error
        finally:
            self._let_go()

    def abandon(self) -> None:
        """The last resort, without I/O: close what is not finished, and leave it to the coordinator."""
        if self._is_owner():
            self._let_go()

    def _let_go(self) -> None:
        if not self.concluded and not self.is_over and two_phase.awaits_decision(self.branches):
            self.outcome = TransactionOutcome.IN_DOUBT  # The vote is out, and nobody here waits any more.
            self._tell_outcome()
        two_phase.abandon(self.branches)
        self.is_over = True

    # -- conclusions

    def _conclude(self, verdict: Verdict, all_branches: bool) -> Core[None]:
        if verdict.decision == gpb.DECISION_UNSPECIFIED:
            assert verdict.why is not None
            self.outcome = TransactionOutcome.IN_DOUBT  # Not concluded: it may be asked for again.
            raise self._in_doubt(verdict.why.message, verdict.why)
        self._hooks.on_decided(self.gtrid, _DECISION_NAMES[verdict.decision])
        completions = yield from two_phase.finish(self.branches, verdict.decision, self._options.decision_patience)
        yield from self._report(completions)
        outcome = TransactionOutcome.IN_DOUBT
        try:
            if verdict.decision == _COMMIT:
                yield from self._conclude_commit(completions, verdict.branches, all_branches)
                outcome = TransactionOutcome.COMMITTED
                self._result = None
            elif two_phase.all_finished(self.branches):
                if two_phase.any_elsewhere(self.branches):
                    yield from self._await_applied("ROLLBACK", gpb.OUTCOME_ROLLED_BACK)
                outcome = TransactionOutcome.ROLLED_BACK
                self._result = verdict.why
            else:
                raise self._not_finished("ROLLBACK")
        except OutcomeInDoubt as error:
            self._result = error
        self._end(outcome)

    def _conclude_commit(self, completions: list[pb.Completion], branches: int, all_branches: bool) -> Core[None]:
        for completion in completions:
            if completion.result != pb.Completion.RESULT_COMMITTED:
                raise self._in_doubt(
                    f"decided COMMIT, but branch '{completion.bqual}' was found rolled back: "
                    "somebody finished it by hand"
                )
        if not two_phase.all_finished(self.branches):
            raise self._not_finished("COMMIT")
        others = all_branches and branches != len(self.branches) + len(self._created)
        if others or two_phase.any_elsewhere(self.branches):
            # Other processes have a part in it, whose completions prove the rest; or recovery has finished one of ours.
            yield from self._await_applied("COMMIT", gpb.OUTCOME_COMMITTED)

    def _await_applied(self, decided: str, outcome: gpb.Outcome) -> Core[None]:
        """Wait until the coordinator has proof of every branch; in doubt if that takes too long or proves otherwise."""
        request = pb.PreparedRequest(gtrid=self.gtrid, wait=pb.WAIT_APPLIED)
        try:
            applied = (yield Call("Prepared", request, self._options.decision_patience, waits=True)).status
        except AssentError as error:
            raise self._in_doubt(
                f"decided {decided}; not known whether every branch has ended so: {error.message}", error
            ) from error
        if applied.outcome != outcome:
            raise self._in_doubt(
                f"decided {decided}, but not proven on every branch: {gpb.Global.State.Name(applied.state)}"
            )

    def _end(self, outcome: TransactionOutcome) -> None:
        self.concluded = True
        self.outcome = outcome
        self._tell_outcome()

    def _tell_outcome(self) -> None:
        self._hooks.on_outcome(self.gtrid, self.outcome.name, time.monotonic() - self._begun)

    def _reset_branch(self) -> BranchCore | None:
        return next((branch for branch in self.branches if branch.session.was_reset), None)

    def _not_finished(self, decided: str) -> OutcomeInDoubt:
        """In doubt, although `decided`, because some branch here is not proven finished."""
        reset = self._reset_branch()
        if reset is None:
            return self._in_doubt(
                f"decided {decided}, but the answer of a database was lost; the coordinator goes on with it"
            )
        outside = (
            ". Statements may have run after the reset, outside of the transaction, and then what they wrote is "
            "committed: look at the rows"
            if reset.session.ran_outside
            else ""
        )
        return self._in_doubt(
            f"decided {decided}, but the connection of branch '{reset.xid.bqual}' on '{reset.resource}' was reset "
            "while it held the branch, which a pool must never do; it is closed, and the coordinator goes on with the "
            "branch" + outside
        )

    def _in_doubt(self, what: str, cause: BaseException | None = None) -> OutcomeInDoubt:
        self.outcome = TransactionOutcome.IN_DOUBT
        metadata = {"gtrid": self.gtrid}
        if self._reset_branch():
            metadata["cause"] = Reason.SESSION_RESET.name
        error = OutcomeInDoubt(
            f"the outcome of global transaction '{self.gtrid}' is in doubt: {what}; ask with `assentctl globals get "
            f"{self.gtrid}`",
            metadata=metadata,
        )
        error.__cause__ = cause
        return error

    def _roll_back_unvoted(self) -> Core[list[pb.Completion]]:
        completions = yield from two_phase.roll_back_unvoted(self.branches)
        return completions + [self._rolled_back(unused.bqual) for unused in self._created]

    def _rolled_back(self, bqual: str) -> pb.Completion:
        return pb.Completion(gtrid=self.gtrid, bqual=bqual, result=pb.Completion.RESULT_ROLLED_BACK)

    def _report(self, completions: list[pb.Completion]) -> Core[None]:
        if not completions:
            return
        for completion in completions:
            self._hooks.on_branch_finished(self.gtrid, completion.bqual, _RESULT_NAMES[completion.result])
        yield Report(completions, awaited=not self._sole)

    def _is_owner(self) -> bool:
        try:
            self._check_owner()
        except SessionHoldsBranch:
            return False
        return True

    def _check_owner(self) -> None:
        for branch in self.branches:
            branch.check_owner()
