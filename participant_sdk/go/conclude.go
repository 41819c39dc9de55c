package assent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
)

// How much longer than its context an end waits for the outcome before it answers that it is in doubt.
const outcomeGrace = time.Second

// How long the age of a sole participant's transaction is good enough.
const ageHolds = time.Second

type scope int

const (
	ownBranches scope = iota // Done when this process's branches are.
	allBranches              // Done when every branch is.
)

// Commit prepares this process's branches in parallel, asks for COMMIT, and commits them in parallel.
//
// If another process's branch has not voted yet: FAILED_PRECONDITION (BRANCHES_NOT_PREPARED), and Commit may be called
// again. After OUTCOME_IN_DOUBT because the coordinator was away, or because ctx ended, it may be called again, too.
// Otherwise repeating it answers the same.
//
// ctx ends the caller's waiting, not the work: what was not asked of the coordinator yet is rolled back, and what was is
// finished in the background as decided. A caller that cannot be told how it ended in time is answered ErrInDoubt.
func (tx *Global) Commit(ctx context.Context) error {
	return tx.end(ctx, func() *Error {
		return tx.decide(ctx, tx.policy != WhenAllPrepared, allBranches)
	})
}

// Prepare is for a worker that joined: it prepares this process's branches, votes, waits for the decision, and finishes
// them on the same connections. Nil: decided COMMIT and committed on every branch of this process. ctx as in Commit.
func (tx *Global) Prepare(ctx context.Context) error {
	return tx.end(ctx, func() *Error { return tx.decide(ctx, false, ownBranches) })
}

// Vote is for a worker that must answer before the decision, like a handler of a call that carries the transaction: it
// prepares this process's branches and votes. Nil: the votes count, and the initiator may commit. The decision is awaited,
// and the branches finished on their connections, in the background; Prepare waits for that and answers how it ended.
func (tx *Global) Vote(ctx context.Context) error {
	err := tx.end(ctx, func() *Error { return tx.voteOnly(ctx) })
	if err != nil {
		return err
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if !tx.concluded {
		tx.client.goOn(tx.finishVoted)
	}
	return nil
}

// finishVoted waits for the decision after Vote, and finishes the branches.
func (tx *Global) finishVoted() {
	waiting, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-tx.client.closing:
			cancel()
		case <-waiting.Done():
		}
	}()
	status, failed := tx.sendVotes(waiting, nil, v1.Wait_WAIT_DECIDED) // Others may end it meanwhile.
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if !tx.concluded {
		_ = tx.conclude(tx.verdict(status, failed), ownBranches)
	}
	tx.letGo()
}

// Rollback rolls this process's branches back at once and everybody else's through the coordinator. reason may be empty.
// Nil: ROLLBACK is decided. FAILED_PRECONDITION (GLOBAL_COMMITTED) if COMMIT had been decided before: then the branches
// have been committed. ctx as in Commit.
func (tx *Global) Rollback(ctx context.Context, reason string) error {
	return tx.end(ctx, func() *Error { return tx.rollback(reason) })
}

// rollBackFor rolls back because of the error of Transact's function, and answers that error; or, if the transaction has been
// committed or is in doubt, an error that says so, with that one behind it: doing it again might do it twice.
func (tx *Global) rollBackFor(ctx context.Context, cause error) error {
	failed := errorOf(tx.Rollback(ctx, cause.Error()))
	if failed != nil && failed.Reason != GlobalCommitted && failed.Reason != OutcomeInDoubt {
		failed = tx.doubtOf(failed)
	}
	if failed == nil || (MetadataOf(cause)["gtrid"] == tx.gtrid && errors.Is(cause, failed.Reason)) {
		return cause // Which says all there is to say.
	}
	said := *failed // The transaction keeps its own.
	said.Message += "; its function had failed: " + cause.Error()
	return said.because(cause)
}

// doubtOf a transaction that could not be rolled back: COMMIT may have been decided, or may still be. Nil if it cannot.
func (tx *Global) doubtOf(failed *Error) *Error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	for _, b := range tx.branches {
		if !b.voted { // COMMIT takes the vote of every branch, and this one has been rolled back.
			return nil
		}
	}
	if tx.concluded || (tx.sole && len(tx.branches) == 0) { // Nobody else can have created it.
		return nil
	}
	return tx.inDoubt("it could not be rolled back: " + failed.Message)
}

// end runs work, and answers at the latest soon after ctx has ended; the work goes on then.
func (tx *Global) end(ctx context.Context, work func() *Error) error {
	run := func() *Error {
		tx.mu.Lock()
		defer tx.mu.Unlock()
		failed := work()
		if tx.concluded {
			tx.letGo()
		}
		return failed
	}
	if ctx.Done() == nil {
		return orNil(run())
	}
	answer := make(chan *Error, 1)
	tx.client.goOn(func() { answer <- run() })
	select {
	case failed := <-answer:
		return orNil(failed)
	case <-ctx.Done():
	}
	grace := time.NewTimer(outcomeGrace)
	defer grace.Stop()
	select {
	case failed := <-answer:
		return orNil(failed)
	case <-grace.C:
	}
	return newError(OutcomeInDoubt, "the outcome of global transaction '"+tx.gtrid+"' is in doubt: the context ended ("+
		ctx.Err().Error()+") while it was being ended, which goes on in the background; call again, or ask with "+
		"`assentctl globals get "+tx.gtrid+"`", map[string]string{"gtrid": tx.gtrid}).because(ctx.Err())
}

// orNil keeps a nil *Error from becoming an error that is not nil.
func orNil(failed *Error) error {
	if failed == nil {
		return nil
	}
	return failed
}

// votesNow prepares and collects the votes, or says that it came to nothing. With tx.mu held.
func (tx *Global) votesNow(ctx context.Context) ([]*v1.Vote, *Error) {
	for resource, why := range tx.refused {
		return nil, tx.rollBackBecause("no branch could be opened on '"+resource+"': "+why.Message, why)
	}
	if err := ctx.Err(); err != nil {
		return nil, tx.rollBackBecause("the context ended before the vote: "+err.Error(), err)
	}
	if tx.client.coordinator.isClosed() && !awaitsDecision(tx.branches) { // Nobody could decide on what is prepared now.
		return nil, tx.rollBackBecause("the client has been closed", nil)
	}
	tx.ended = true
	votes := prepareAll(tx.branches)
	for _, unused := range tx.created { // Nobody opened them: they have done nothing.
		votes = append(votes, &v1.Vote{Bqual: unused.GetBqual(), Kind: v1.VoteKind_VOTE_KIND_READ_ONLY})
	}
	if anyFailed(votes) {
		return nil, tx.failedToPrepare(votes)
	}
	if err := ctx.Err(); err != nil && !awaitsDecision(tx.branches) {
		return nil, tx.rollBackBecause("the context ended before the vote: "+err.Error(), err)
	}
	return votes, nil
}

func anyFailed(votes []*v1.Vote) bool {
	for _, vote := range votes {
		if vote.Kind == v1.VoteKind_VOTE_KIND_FAILED {
			return true
		}
	}
	return false
}

// decide: with tx.mu held.
func (tx *Global) decide(ctx context.Context, finalize bool, scope scope) *Error {
	if tx.concluded {
		return tx.result
	}
	if tx.onePhase != nil {
		return tx.awaitOnePhase()
	}
	if finalize {
		if done, failed := tx.commitInOnePhase(ctx); done {
			return failed
		}
	}
	votes, failed := tx.votesNow(ctx)
	if failed != nil {
		return failed
	}
	fresh := markVoted(tx.branches)
	var status *v1.GlobalStatus
	if finalize {
		status, failed = tx.sendFinalize(votes)
	} else {
		status, failed = tx.sendVotes(context.Background(), votes, v1.Wait_WAIT_DECIDED)
	}
	if refused := tx.notCounted(fresh, failed); refused != nil {
		return refused
	}
	if status.GetCause() == v1.DecisionCause_DECISION_CAUSE_REFUSED {
		tx.client.reservation.forget() // What it was run on counts no more, perhaps.
	}
	return tx.conclude(tx.verdict(status, failed), scope)
}

// voteOnly: with tx.mu held.
func (tx *Global) voteOnly(ctx context.Context) *Error {
	if tx.concluded {
		return tx.result
	}
	if tx.onePhase != nil {
		return tx.awaitOnePhase()
	}
	votes, failed := tx.votesNow(ctx)
	if failed != nil {
		return failed
	}
	fresh := markVoted(tx.branches)
	status, failed := tx.sendVotes(context.Background(), votes, v1.Wait_WAIT_NONE)
	if refused := tx.notCounted(fresh, failed); refused != nil {
		return refused
	}
	verdict := tx.verdict(status, failed)
	if failed != nil || verdict.decision != v1.Decision_DECISION_UNSPECIFIED {
		return tx.conclude(verdict, ownBranches)
	}
	tx.voted = true // Close leaves it to finishVoted.
	return nil
}

// notCounted: no vote of this call was counted, so what voted in it for the first time may still be rolled back. A vote
// that an earlier call may have brought stays out. With tx.mu held.
func (tx *Global) notCounted(fresh []*Branch, failed *Error) *Error {
	if failed == nil {
		return nil
	}
	isVoid := tx.sole && refusedByItself[failed.Reason]
	if !isVoid && failed.Reason != BranchesNotPrepared && failed.Reason != WrongServer {
		return nil
	}
	for _, b := range fresh {
		b.voted = false
	}
	if failed.Reason == WrongServer {
		return tx.rollBackBecause(failed.Message, failed)
	}
	if isVoid { // It has not been decided, and never will be.
		tx.report(tx.rollBackUnvoted())
		tx.result = failed
		tx.endRolledBack()
	}
	return failed
}

// endRolledBack: nothing of it can commit any more. In doubt if that is not proven for every branch. With tx.mu held.
func (tx *Global) endRolledBack() {
	tx.concluded = true
	tx.outcome = v1.Outcome_OUTCOME_IN_DOUBT
	if allFinished(tx.branches) {
		tx.outcome = v1.Outcome_OUTCOME_ROLLED_BACK
	}
}

func (tx *Global) sendVotes(ctx context.Context, votes []*v1.Vote, wait v1.Wait) (*v1.GlobalStatus, *Error) {
	return tx.client.coordinator.prepared(ctx, &v1.PreparedRequest{Gtrid: tx.gtrid, Votes: votes, Wait: wait},
		time.Now().Add(tx.client.options.decisionPatience))
}

func (tx *Global) sendFinalize(votes []*v1.Vote) (*v1.GlobalStatus, *Error) {
	giveUp := time.Now().Add(tx.client.options.decisionPatience)
	for {
		request := tx.finalizeWith(v1.Decision_DECISION_COMMIT)
		request.Votes = votes
		until := giveUp
		if tx.sole { // What creates it says how old it is, which must stay true while nobody answers.
			if soon := time.Now().Add(ageHolds); soon.Before(until) {
				until = soon
			}
		}
		status, failed := tx.client.coordinator.finalize(context.Background(), request, until)
		if failed == nil || !tx.sole || !isRetryable(failed) || !time.Now().Before(giveUp) || tx.client.coordinator.isClosed() {
			return status, failed
		}
	}
}

func (tx *Global) finalizeWith(decision v1.Decision) *v1.FinalizeRequest {
	request := &v1.FinalizeRequest{Gtrid: tx.gtrid, Decision: decision, Wait: v1.Wait_WAIT_DECIDED}
	if tx.sole { // With COMMIT the sessions come with the votes.
		request.Create = tx.whole(decision == v1.Decision_DECISION_ROLLBACK)
	}
	return request
}

// whole is the transaction, as what creates it brings it.
func (tx *Global) whole(withSessions bool) *v1.NewGlobal {
	whole := &v1.NewGlobal{Age: durationpb.New(time.Since(tx.begun))}
	if tx.timeout != 0 {
		whole.Timeout = durationpb.New(tx.timeout)
	}
	for _, b := range tx.branches {
		spec := &v1.BranchSpec{Bqual: b.branch.bqual, Resource: b.resource, WitnessTable: b.witness.name()}
		if withSessions {
			spec.Session = b.session.describe()
		}
		whole.Branches = append(whole.Branches, spec)
	}
	return whole
}

func (tx *Global) sendFailed(votes []*v1.Vote) *Error {
	giveUp := time.Now().Add(tx.rollbackPatience)
	var failed *Error
	if tx.sole {
		request := tx.finalizeWith(v1.Decision_DECISION_ROLLBACK)
		request.Votes = votes
		_, failed = tx.client.coordinator.finalize(context.Background(), request, giveUp)
	} else {
		_, failed = tx.client.coordinator.prepared(context.Background(),
			&v1.PreparedRequest{Gtrid: tx.gtrid, Votes: votes, Wait: v1.Wait_WAIT_NONE}, giveUp)
	}
	return failed
}

// rollBackBecause: what was wanted cannot be committed. Rolls back, and says why. With tx.mu held.
func (tx *Global) rollBackBecause(why string, cause error) *Error {
	if failed := tx.rollback(why); failed != nil {
		return failed
	}
	metadata := map[string]string{"gtrid": tx.gtrid, "cause": v1.DecisionCause_DECISION_CAUSE_FINALIZE.String()}
	if reason := ReasonOf(cause); reason != "" {
		metadata["because"] = string(reason)
	}
	tx.result = newError(GlobalRolledBack, "rolled back: "+why, metadata).because(cause)
	return tx.result
}

// failedToPrepare: some vote is FAILED. Rolls the others back, tells the coordinator, answers the error behind the failed
// vote. With tx.mu held.
func (tx *Global) failedToPrepare(votes []*v1.Vote) *Error {
	// COMMIT cannot be decided without our votes, so the locks of the others go first.
	completions := tx.rollBackUnvoted()
	var failed []*v1.Vote
	for _, vote := range votes {
		if vote.Kind == v1.VoteKind_VOTE_KIND_FAILED {
			failed = append(failed, vote)
		}
	}
	if told := tx.sendFailed(failed); told != nil {
		// The vote may not have arrived. The proofs behind it say the same, and they are offered until they are taken.
		tx.client.options.logger.Printf("assent: gtrid=%s FAILED vote not confirmed: %v", tx.gtrid, told)
		for _, vote := range failed {
			if vote.RolledBack {
				completions = append(completions, tx.rolledBack(vote.Bqual))
			}
		}
	}
	tx.report(completions)
	for _, b := range tx.branches {
		if tx.result == nil {
			tx.result = b.poison
		}
	}
	// Whatever the database's error was, the transaction is rolled back.
	if tx.result.Code != codes.Aborted {
		tx.result = newError(GlobalRolledBack, "rolled back: "+tx.result.Message, tx.result.Metadata).because(tx.result)
	}
	tx.endRolledBack()
	// Doing it all again would do that part twice.
	if reset := tx.resetBranch(); reset != nil && reset.session.ranOutside() {
		tx.result = tx.notFinished("ROLLBACK").because(tx.result)
	}
	return tx.result
}

// rollback: with tx.mu held.
func (tx *Global) rollback(reason string) *Error {
	if tx.onePhase != nil && !tx.concluded {
		if known := tx.awaitOnePhase(); !tx.concluded {
			return known
		}
	}
	if tx.concluded {
		switch tx.outcome {
		case v1.Outcome_OUTCOME_ROLLED_BACK:
			return nil
		case v1.Outcome_OUTCOME_COMMITTED:
			return newError(GlobalCommitted, "global transaction '"+tx.gtrid+"' has been committed; it cannot be rolled back",
				map[string]string{"gtrid": tx.gtrid})
		}
		return tx.result
	}
	tx.ended = true
	completions := tx.rollBackUnvoted()
	request := tx.finalizeWith(v1.Decision_DECISION_ROLLBACK)
	if reason == "" {
		reason = "rolled back by the application"
	}
	request.Reason = cutText(reason, maxReasonBytes)
	verdict := tx.verdict(tx.client.coordinator.finalize(context.Background(), request, time.Now().Add(tx.rollbackPatience)))
	tx.report(completions) // Also if nobody answered: they are offered until they are taken.
	if verdict.decision == v1.Decision_DECISION_UNSPECIFIED {
		return verdict.why // May be called again.
	}
	concluded := tx.conclude(verdict, ownBranches)
	if verdict.decision == v1.Decision_DECISION_COMMIT {
		return verdict.why
	}
	if concluded != nil && concluded.Code == codes.Unknown {
		return concluded
	}
	return nil
}

// verdict is what the coordinator's answer to a vote or a Finalize says about the decision.
type verdict struct {
	decision v1.Decision // UNSPECIFIED: not known.
	why      *Error      // For ROLLBACK: the error that says why. For UNSPECIFIED: why it is not known.
	branches int         // Of the whole transaction; 0: not known.
}

func (tx *Global) verdict(status *v1.GlobalStatus, failed *Error) verdict {
	if failed == nil {
		return verdictOfStatus(status)
	}
	return verdictOfError(failed)
}

func verdictOfStatus(status *v1.GlobalStatus) verdict {
	out := verdict{decision: status.GetDecision(), branches: int(status.GetBranches())}
	switch out.decision {
	case v1.Decision_DECISION_ROLLBACK:
		detail := status.GetCauseDetail()
		if detail == "" {
			detail = status.GetCause().String()
		}
		out.why = newError(GlobalRolledBack, "global transaction '"+status.GetGtrid()+"' was rolled back: "+detail,
			map[string]string{"gtrid": status.GetGtrid(), "cause": status.GetCause().String(), "detail": status.GetCauseDetail()})
	case v1.Decision_DECISION_UNSPECIFIED:
		out.why = newError(OutcomeInDoubt, "no decision came in time", map[string]string{"gtrid": status.GetGtrid()})
	}
	return out
}

func verdictOfError(failed *Error) verdict {
	out := verdict{why: failed}
	switch failed.Reason {
	case GlobalCommitted:
		out.decision = v1.Decision_DECISION_COMMIT
	case GlobalRolledBack:
		out.decision = v1.Decision_DECISION_ROLLBACK
	case GlobalNotFound: // Presumed abort: without a record there is no decision to COMMIT.
		out.decision = v1.Decision_DECISION_ROLLBACK
		out.why = newError(GlobalRolledBack, failed.Message, failed.Metadata).because(failed)
	}
	return out
}

// conclude finishes the branches as decided, reports, and answers the outcome. With tx.mu held.
func (tx *Global) conclude(verdict verdict, scope scope) *Error {
	if verdict.decision == v1.Decision_DECISION_UNSPECIFIED {
		return tx.inDoubt(verdict.why.Message).because(verdict.why)
	}
	commit := verdict.decision == v1.Decision_DECISION_COMMIT
	completions := finishAll(tx.branches, commit, time.Now().Add(tx.client.options.decisionPatience))
	tx.report(completions)
	tx.concluded = true
	switch {
	case commit:
		tx.result = tx.concludeCommit(completions, verdict.branches, scope)
	case !allFinished(tx.branches):
		tx.result = tx.notFinished("ROLLBACK")
	default:
		tx.result = nil
		if anyElsewhere(tx.branches) {
			tx.result = tx.awaitApplied("ROLLBACK", v1.Outcome_OUTCOME_ROLLED_BACK)
		}
		if tx.result == nil {
			tx.outcome = v1.Outcome_OUTCOME_ROLLED_BACK
			tx.result = verdict.why
		}
	}
	return tx.result
}

func (tx *Global) concludeCommit(completions []*v1.Completion, all int, scope scope) *Error {
	for _, completion := range completions {
		if completion.Result != v1.Completion_RESULT_COMMITTED {
			return tx.inDoubt("decided COMMIT, but branch '" + completion.Bqual +
				"' was found rolled back: somebody finished it by hand")
		}
	}
	if !allFinished(tx.branches) {
		return tx.notFinished("COMMIT")
	}
	others := scope == allBranches && all != len(tx.branches)+len(tx.created)
	if others || anyElsewhere(tx.branches) {
		// Other processes have a part in it, whose completions prove the rest; or recovery has finished a part of ours.
		if failed := tx.awaitApplied("COMMIT", v1.Outcome_OUTCOME_COMMITTED); failed != nil {
			return failed
		}
	}
	tx.outcome = v1.Outcome_OUTCOME_COMMITTED
	return nil
}

// awaitApplied waits until the coordinator has proof of every branch; in doubt if that takes too long or proves something
// else.
func (tx *Global) awaitApplied(decided string, outcome v1.Outcome) *Error {
	status, failed := tx.sendVotes(context.Background(), nil, v1.Wait_WAIT_APPLIED)
	if failed != nil {
		return tx.inDoubt("decided " + decided + "; not known whether every branch has ended so: " + failed.Message).because(failed)
	}
	if status.GetOutcome() != outcome {
		return tx.inDoubt("decided " + decided + ", but not proven on every branch: " + status.GetState().String())
	}
	return nil
}

func (tx *Global) resetBranch() *Branch {
	for _, b := range tx.branches {
		if b.session.wasReset() {
			return b
		}
	}
	return nil
}

// notFinished: in doubt, although decided, because some branch here is not proven finished.
func (tx *Global) notFinished(decided string) *Error {
	reset := tx.resetBranch()
	if reset == nil {
		return tx.inDoubt("decided " + decided + ", but the answer of a database was lost; the coordinator goes on with it")
	}
	outside := ""
	if reset.session.ranOutside() {
		outside = ". Statements may have run after the reset, outside of the transaction, and then what they wrote is " +
			"committed: look at the rows"
	}
	return tx.inDoubt(fmt.Sprintf("decided %s, but the connection of branch '%s' on '%s' was reset while it held the branch, "+
		"which a pool must never do; it is closed, and the coordinator goes on with the branch%s", decided,
		reset.branch.bqual, reset.resource, outside))
}

func (tx *Global) inDoubt(what string) *Error {
	tx.outcome = v1.Outcome_OUTCOME_IN_DOUBT
	metadata := map[string]string{"gtrid": tx.gtrid}
	if tx.resetBranch() != nil {
		metadata["cause"] = string(SessionReset)
	}
	return newError(OutcomeInDoubt, "the outcome of global transaction '"+tx.gtrid+"' is in doubt: "+what+
		"; ask with `assentctl globals get "+tx.gtrid+"`", metadata)
}

// rollBackUnvoted also counts the branches that Begin made and nobody opened.
func (tx *Global) rollBackUnvoted() []*v1.Completion {
	completions := rollBackUnvoted(tx.branches)
	for _, unused := range tx.created {
		completions = append(completions, tx.rolledBack(unused.GetBqual()))
	}
	return completions
}

// report tells the coordinator, later, how branches ended. Of a sole participant's transaction nobody waits for that.
func (tx *Global) report(completions []*v1.Completion) {
	tx.client.reporter.report(completions, !tx.sole)
}

func (tx *Global) rolledBack(bqual string) *v1.Completion {
	return &v1.Completion{Gtrid: tx.gtrid, Bqual: bqual, Result: v1.Completion_RESULT_ROLLED_BACK}
}

// cutText makes a text UTF-8 and at most size bytes long.
func cutText(text string, size int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}
