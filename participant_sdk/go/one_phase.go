package assent

import (
	"context"
	"time"

	v1 "assent.example/assent/assentv1"
)

// One phase for one writer: docs/decisions/0012-one-phase-commit.md.

// tellPause is between two reports of an answer that was lost.
const tellPause = 50 * time.Millisecond

// onePhaser is a session that can commit a branch that is not prepared, without a second phase.
type onePhaser interface {
	// commitsInOnePhase: an OK to commitOnePhase outlives a crash of the server.
	commitsInOnePhase() bool
	// commitOnePhase commits, and leaves the branch's witness (witnessOf) with it. Any failure that is not unsent, nor
	// didNotCommit, leaves it committed or rolled back: once the session is gone, the witness tells.
	commitOnePhase(ctx context.Context) xaResult
}

// witnessOf is the ids of the row that a branch leaves which is committed in one phase: no bqual ends like that.
func witnessOf(branch xid) xid { return xid{branch.gtrid, branch.bqual + "!"} }

// onlyWriter finds the branch that has written, or may have, if there is only one and it can be committed in one phase. None of
// the branches may have failed.
func onlyWriter(branches []*Branch) *Branch {
	wrote := make([]bool, len(branches))
	failed := make([]bool, len(branches))
	inParallel(branches, func(place int, b *Branch) { wrote[place], failed[place] = b.looksWritten() })
	var writer *Branch
	for i, b := range branches {
		if failed[i] || (wrote[i] && writer != nil) {
			return nil
		}
		if wrote[i] {
			writer = b
		}
	}
	if writer == nil || !writer.witness.exists() {
		return nil
	}
	if session, ok := writer.session.(onePhaser); !ok || !session.commitsInOnePhase() {
		return nil
	}
	return writer
}

// looksWritten: with b.mu held.
func (b *Branch) looksWritten() (wrote, failed bool) {
	b.ending = true
	if b.vote != nil {
		return false, b.vote.Kind != v1.VoteKind_VOTE_KIND_READ_ONLY
	}
	b.closeOpen() // What comes out then may poison it.
	if b.poison != nil || b.stage == stageIdle {
		return false, b.poison != nil || b.unstarted != nil
	}
	ctx, cancel := b.verbContext()
	defer cancel()
	wrote, failure := b.wrote(ctx)
	return wrote, failure != nil
}

type onePhaseEnd int

const (
	onePhaseCommitted onePhaseEnd = iota
	onePhaseFailed                // The branch has voted FAILED.
	onePhaseUnknown               // Its database has done it or not, and its connection is closed.
)

// commitInOnePhase commits what onlyWriter found. From now on nobody but its database may say that it was rolled back.
func (b *Branch) commitInOnePhase() onePhaseEnd {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.poison != nil { // Its function has failed meanwhile.
		b.phaseOne()
		return onePhaseFailed
	}
	ctx, cancel := b.verbContext()
	defer cancel()
	b.stage = stageInDoubt
	result := b.session.(onePhaser).commitOnePhase(ctx)
	if result.outcome == xaOK {
		b.stage = stageFinished
		return onePhaseCommitted
	}
	if result.unsent || b.didNotCommit(result) {
		b.failedBy(ctx, verbCommitOnePhase, result)
		return onePhaseFailed
	}
	b.tx.client.options.logger.Printf("assent: gtrid=%s bqual=%s resource=%s one-phase commit in doubt: %s %d", b.branch.gtrid,
		b.branch.bqual, b.resource, result.outcome, result.failure.code)
	b.letGo()
	return onePhaseUnknown
}

// didNotCommit: whichever of the statements was answered so, COMMIT has done nothing.
func (b *Branch) didNotCommit(result xaResult) bool {
	switch result.outcome {
	case xaRolledBack, xaSessionReset, xaWrongState:
		return true
	}
	_, refused := b.witness.whyRefused(result.failure.code)
	return refused || result.failure.code == erLockDeadlock
}

// commitInOnePhase does so if that will do; done: no more is to be done. With tx.mu held.
func (tx *Global) commitInOnePhase(ctx context.Context) (done bool, failed *Error) {
	// Past its timeout, the coordinator says so.
	late := tx.timeout != 0 && time.Since(tx.begun) >= tx.timeout
	if !tx.mayEndInOnePhase || late || len(tx.refused) > 0 || ctx.Err() != nil || tx.client.coordinator.isClosed() {
		return false, nil
	}
	tx.ended = true
	writer := onlyWriter(tx.branches)
	if writer == nil {
		return false, nil
	}
	var readers []*Branch
	for _, b := range tx.branches {
		if b != writer {
			readers = append(readers, b)
		}
	}
	votes := prepareAll(readers)
	if anyFailed(votes) {
		return true, tx.failedToPrepare(votes)
	}
	for _, vote := range votes {
		if vote.Kind != v1.VoteKind_VOTE_KIND_READ_ONLY {
			return false, nil
		}
	}
	// Before it: from now on nobody may say that it was rolled back but its database.
	tx.onePhase = writer
	switch writer.commitInOnePhase() {
	case onePhaseCommitted:
		tx.report([]*v1.Completion{tx.onePhaseReport(v1.Completion_RESULT_COMMITTED)})
		tx.concluded, tx.outcome = true, v1.Outcome_OUTCOME_COMMITTED
		return true, nil
	case onePhaseFailed:
		tx.onePhase = nil
		return true, tx.failedToPrepare(prepareAll(tx.branches))
	}
	return true, tx.awaitOnePhase()
}

func (tx *Global) onePhaseReport(result v1.Completion_Result) *v1.Completion {
	report := tx.onePhase.completion(result)
	report.Create = tx.whole(result == v1.Completion_RESULT_UNKNOWN)
	return report
}

// awaitOnePhase: after a lost answer, has the coordinator look how it ended. If it is not concluded then, that is in doubt, and
// may be asked for again. With tx.mu held.
func (tx *Global) awaitOnePhase() *Error {
	const lost = "it was to be committed in one phase, and the answer of its database was lost"
	giveUp := time.Now().Add(tx.client.options.decisionPatience)
	if failed := tx.tellOfLostAnswer(giveUp); failed != nil {
		return tx.inDoubt(lost + "; the coordinator could not be asked to look: " + failed.Message).because(failed)
	}
	status, failed := tx.client.coordinator.prepared(context.Background(),
		&v1.PreparedRequest{Gtrid: tx.gtrid, Wait: v1.Wait_WAIT_APPLIED}, giveUp)
	switch {
	case failed != nil:
		return tx.inDoubt(lost + "; not known yet what that did: " + failed.Message).because(failed)
	case status.GetOutcome() == v1.Outcome_OUTCOME_COMMITTED:
		tx.result = nil
	case status.GetOutcome() == v1.Outcome_OUTCOME_ROLLED_BACK:
		tx.result = newError(GlobalRolledBack, "rolled back: "+lost+", which has not done it",
			map[string]string{"gtrid": tx.gtrid, "cause": status.GetCause().String()})
	default:
		return tx.inDoubt(lost + ", which has not been seen yet: " + status.GetState().String())
	}
	tx.concluded, tx.outcome = true, status.GetOutcome()
	return tx.result
}

func (tx *Global) tellOfLostAnswer(giveUp time.Time) *Error {
	for {
		report := tx.onePhaseReport(v1.Completion_RESULT_UNKNOWN) // Anew, for its age must stay true.
		until := time.Now().Add(ageHolds)
		if giveUp.Before(until) {
			until = giveUp
		}
		told, failed := tx.client.coordinator.completed(context.Background(),
			&v1.CompletedRequest{Completions: []*v1.Completion{report}}, until)
		if failed == nil {
			if len(told.GetResults()) != 1 || told.Results[0].GetError() == nil {
				return nil
			}
			failed = errorOfRPC(told.Results[0].GetError())
		}
		if !isRetryable(failed) {
			return failed
		}
		if !time.Now().Before(giveUp) || tx.client.coordinator.isClosed() {
			tx.client.reporter.report([]*v1.Completion{report}, true) // Offered until it is taken.
			return failed
		}
		time.Sleep(tellPause)
	}
}
