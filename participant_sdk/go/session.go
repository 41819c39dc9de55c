package assent

import (
	"context"
	"fmt"

	v1 "assent.example/assent/assentv1"
)

// engine is what differs between databases before there is a branch.
type engine interface {
	// takesSeveral tells whether the connection takes several statements in one message.
	takesSeveral(ctx context.Context, l *link) (bool, *dbError)
	// learn asks the server who it is and which session this is; remembered for the life of the connection.
	learn(ctx context.Context, l *link) (any, *dbError)
	// session makes the branch's session, without a word to the server.
	session(l *link, facts any, branch xid, witness witnessTable) session
}

// xaResult is what a verb was answered.
type xaResult struct {
	outcome xaOutcome
	failure *dbError // Nil if outcome is xaOK.
	unsent  bool     // The server certainly saw nothing of it.
}

// session is one pinned connection and the branch that it runs: two-phase commit in words that are the same for every
// engine. Not safe for concurrent use.
type session interface {
	// describe is how the coordinator finds the session again at the server; once the branch is prepared also what
	// proves how it ends.
	describe() *v1.Session
	// detaches: PREPARE lets go of the branch, so that any session may finish it. As of the last look.
	detaches() bool
	// wasReset: the connection was taken away from the branch. ranOutside: statements may have run without it, and
	// committed by themselves.
	wasReset() bool
	ranOutside() bool

	// start begins the branch. startSQL is what does it, for a first statement to ride along; readStart is what the
	// answer to such a batch says of the beginning.
	start(ctx context.Context) xaResult
	startSQL() []string
	readStart(failure *dbError) xaResult
	// joins: a first statement with (or without) arguments may ride behind startSQL.
	joins(withArgs bool) bool
	// refuses says why a statement must not run inside a branch; empty: it may.
	refuses(statement string) string
	// keepsFailed: after an error the transaction is as it was before the statement; else only a savepoint brings it back.
	keepsFailed() bool

	// mayHaveWritten: false is proof that the branch has not written. Asks the server if needed.
	mayHaveWritten(ctx context.Context, knownWrites bool) (bool, *dbError)
	prepare(ctx context.Context) xaResult
	// endReadOnly ends a branch that has written nothing. If it fails, what the branch has read does not hold.
	endReadOnly(ctx context.Context) xaResult
	commit(ctx context.Context) xaResult
	rollback(ctx context.Context) xaResult
}

// resetError says that the branch's connection was taken away from it.
func resetError(words string) *dbError {
	return &dbError{code: sessionResetCode, message: words}
}

// checkServer refuses a session that is not on the resource's server, or on one that a failover has replaced.
func checkServer(described *v1.Session, resource, server string, timeline int64) *Error {
	other := server != "" && described.GetServer() != "" && described.GetServer() != server
	old := described.GetTimeline() != 0 && described.GetTimeline() < timeline
	if !other && !old {
		return nil
	}
	why := fmt.Sprintf("the session is on the server %s, but resource '%s' is %s: the participant must connect to the "+
		"resource's own server", described.GetServer(), resource, server)
	if !other {
		why = fmt.Sprintf("the session is on timeline %d of its server, but resource '%s' has been on timeline %d since a "+
			"failover: the participant is on a server that was replaced, and must connect to the new one",
			described.GetTimeline(), resource, timeline)
	}
	return newError(WrongServer, why,
		map[string]string{"resource": resource, "server": server, "session_server": described.GetServer()})
}
