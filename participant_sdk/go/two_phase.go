package assent

import (
	"context"
	"sync"
	"time"

	v1 "assent.example/assent/assentv1"
)

const (
	maxFailureBytes  = 1000
	finishRetryPause = 100 * time.Millisecond
)

// verbContext is what PREPARE, COMMIT and ROLLBACK run with: no caller's deadline, because a driver closes the connection
// when one passes, and whether the verb arrived would then not be known.
func (b *Branch) verbContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), b.tx.client.options.sessionTimeout)
}

// inParallel runs fn for every branch and its place in the list, with its lock held; the first one on the caller's
// goroutine.
func inParallel(branches []*Branch, fn func(place int, b *Branch)) {
	locked := func(place int) {
		b := branches[place]
		b.mu.Lock()
		defer b.mu.Unlock()
		fn(place, b)
	}
	if len(branches) == 0 {
		return
	}
	var others sync.WaitGroup
	for place := 1; place < len(branches); place++ {
		others.Add(1)
		go func(place int) {
			defer others.Done()
			locked(place)
		}(place)
	}
	locked(0)
	others.Wait()
}

// prepareAll is phase one. Every branch that has not voted yet is prepared, or ended if it wrote nothing (READ_ONLY), or
// rolled back if it is poisoned or PREPARE fails (FAILED). Answers one vote for each branch, in order, old ones included.
func prepareAll(branches []*Branch) []*v1.Vote {
	inParallel(branches, func(_ int, b *Branch) { b.phaseOne() })
	votes := make([]*v1.Vote, len(branches))
	for i, b := range branches {
		votes[i] = b.vote
	}
	return votes
}

// phaseOne: with b.mu held.
func (b *Branch) phaseOne() {
	if b.vote != nil {
		return
	}
	b.closeOpen()
	ctx, cancel := b.verbContext()
	defer cancel()
	if b.poison == nil && b.stage == stageIdle {
		b.poison = b.unstarted // What was asked of it was not done.
	}
	switch {
	case b.stage == stageIdle && b.poison == nil:
		b.stage = stageFinished
		b.votes(v1.VoteKind_VOTE_KIND_READ_ONLY)
	case b.stage == stageIdle: // The beginning itself failed: there never was a branch.
		b.votesFailed(true)
	case b.poison != nil:
		b.votesFailed(provesRolledBack(b.session.rollback(ctx).outcome, b.session.detaches(), false))
	default:
		b.prepare(ctx)
	}
}

// prepare: with b.mu held, on an active branch.
func (b *Branch) prepare(ctx context.Context) {
	wrote, failure := b.wrote(ctx)
	switch {
	case failure != nil:
		b.failedBy(ctx, verbPrepare, xaResult{outcome: postgresOutcome(verbStart, failure), failure: failure, unsent: true})
	case wrote:
		if result := b.session.prepare(ctx); result.outcome != xaOK {
			b.failedBy(ctx, verbPrepare, result)
			return
		}
		b.stage = stagePrepared
		b.votes(v1.VoteKind_VOTE_KIND_PREPARED)
	default:
		if result := b.session.endReadOnly(ctx); result.outcome != xaOK {
			b.poison = result.failure.asError("ending the branch, which has only read")
			b.votesFailed(provesRolledBack(b.session.rollback(ctx).outcome, b.session.detaches(), false))
			return
		}
		b.stage = stageFinished
		b.votes(v1.VoteKind_VOTE_KIND_READ_ONLY)
	}
}

// wrote tells whether it may have. Its server is asked once at most. With b.mu held, on an active branch.
func (b *Branch) wrote(ctx context.Context) (bool, *dbError) {
	if b.probed != nil {
		return *b.probed, nil
	}
	wrote, failure := b.session.mayHaveWritten(ctx, b.writes)
	if failure == nil {
		b.probed = &wrote
	}
	return wrote, failure
}

// failedBy votes FAILED because of what the verb that was to end the branch's work was answered, and rolls back. With b.mu held.
func (b *Branch) failedBy(ctx context.Context, verb xaVerb, result xaResult) {
	b.poison = xaErrorOf(verb, result.outcome, result.failure)
	if why, known := b.witness.whyRefused(result.failure.code); known {
		b.poison = result.failure.asError(why)
	}
	switch result.outcome {
	case xaConnectionLost: // If the verb never reached the server, the end of the session was the end of the branch.
		b.votesFailed(result.unsent)
	case xaSessionReset: // Its database rolls it back with the reset, or with the end of its session: not proven here.
		b.votesFailed(false)
	default:
		b.votesFailed(provesRolledBack(b.session.rollback(ctx).outcome, b.session.detaches(), false))
	}
}

// markVoted: from now on only the decision may finish these branches. Answers those of which that was not so yet.
func markVoted(branches []*Branch) []*Branch {
	var fresh []*Branch
	for _, b := range branches {
		if !b.voted {
			fresh = append(fresh, b)
		}
		b.voted = true
	}
	return fresh
}

// awaitsDecision: some branch is prepared and its vote is out.
func awaitsDecision(branches []*Branch) bool {
	for _, b := range branches {
		if b.stage == stagePrepared && b.voted {
			return true
		}
	}
	return false
}

// rollBackUnvoted rolls back every branch whose vote is not out, whatever it has done (no decision to COMMIT can exist
// without that vote), and answers what is proven. Branches that have ended, or whose vote is out, are left alone.
func rollBackUnvoted(branches []*Branch) []*v1.Completion {
	var unvoted []*Branch
	for _, b := range branches {
		if !b.voted {
			unvoted = append(unvoted, b)
		}
	}
	proven := make([]*v1.Completion, len(unvoted))
	inParallel(unvoted, func(place int, b *Branch) {
		rolledBack := b.stage == stageIdle
		if b.stage == stageActive || b.stage == stagePrepared {
			b.closeOpen()
			ctx, cancel := b.verbContext()
			defer cancel()
			prepared := b.stage == stagePrepared
			rolledBack = provesRolledBack(b.session.rollback(ctx).outcome, b.session.detaches(), prepared)
			b.stage = stageInDoubt
		}
		if rolledBack {
			b.stage = stageFinished
			proven[place] = b.completion(v1.Completion_RESULT_ROLLED_BACK)
		}
	})
	return withoutNil(proven)
}

func withoutNil(completions []*v1.Completion) []*v1.Completion {
	var out []*v1.Completion
	for _, completion := range completions {
		if completion != nil {
			out = append(out, completion)
		}
	}
	return out
}

// finishAll is phase two. It finishes every prepared branch on the session that prepared it, and answers what is proven.
// What the database cannot do right now (read-only, backup lock) is repeated until giveUp. A branch whose answer was lost
// stays in doubt and is not in the list.
func finishAll(branches []*Branch, commit bool, giveUp time.Time) []*v1.Completion {
	var prepared []*Branch
	for _, b := range branches {
		if b.stage == stagePrepared {
			prepared = append(prepared, b)
		}
	}
	proven := make([]*v1.Completion, len(prepared))
	inParallel(prepared, func(place int, b *Branch) { proven[place] = b.finish(commit, giveUp) })
	return withoutNil(proven)
}

// finish: with b.mu held.
func (b *Branch) finish(commit bool, giveUp time.Time) *v1.Completion {
	for {
		verb := b.session.rollback
		if commit {
			verb = b.session.commit
		}
		ctx, cancel := b.verbContext()
		result := verb(ctx)
		cancel()
		found := finishOf(commit, result.outcome, b.session.detaches())
		if found == finishRepeat && time.Now().Before(giveUp) {
			time.Sleep(finishRetryPause)
			continue
		}
		switch found {
		case finishCommitted:
			b.stage = stageFinished
			return b.completion(v1.Completion_RESULT_COMMITTED)
		case finishRolledBack:
			b.stage = stageFinished
			return b.completion(v1.Completion_RESULT_ROLLED_BACK)
		case finishElsewhere:
			b.stage = stageElsewhere
		default:
			b.tx.client.options.logger.Printf("assent: gtrid=%s bqual=%s resource=%s commit=%t in doubt: %s",
				b.branch.gtrid, b.branch.bqual, b.resource, commit, result.outcome)
			b.stage = stageInDoubt
		}
		return nil
	}
}

// allFinished: every branch is finished, by whomever.
func allFinished(branches []*Branch) bool {
	for _, b := range branches {
		if b.stage != stageFinished && b.stage != stageElsewhere {
			return false
		}
	}
	return true
}

// anyElsewhere: some branch was finished by somebody else, so that how it ended is not proven here.
func anyElsewhere(branches []*Branch) bool {
	for _, b := range branches {
		if b.stage == stageElsewhere {
			return true
		}
	}
	return false
}
