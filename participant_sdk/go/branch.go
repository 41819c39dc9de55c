package assent

import (
	"context"
	"database/sql"
	"strconv"
	"sync"

	v1 "assent.example/assent/assentv1"
)

type stage int

const (
	stageIdle      stage = iota // No statement yet: the database knows nothing of it.
	stageActive                 // It has been started.
	stagePrepared               // PREPARE answered OK.
	stageElsewhere              // PREPARE let go of it, and somebody else, the coordinator's recovery, has finished it.
	stageInDoubt                // The session was lost with PREPARE or the finishing statement on its way.
	stageFinished               // Proven finished, or ended without having written.
)

// Branch is one database's part of a global transaction, on a connection of its own that it takes out of the pool with
// the first call and gives back when the branch is finished. One that may still hold a prepared branch is never given
// back: it is closed.
//
// Safe for concurrent use, as a *sql.Conn is: one statement at a time.
type Branch struct {
	tx       *Global
	branch   xid
	resource string
	witness  witnessTable
	db       *sql.DB

	mu        sync.Mutex // One statement, or one verb, at a time.
	link      *link
	session   session
	pool      *sql.DB // The application's view of the connection.
	conn      *sql.Conn
	rows      map[*branchRows]bool // What the application has not closed.
	stmts     map[*branchStmt]bool
	stage     stage
	writes    bool     // A statement has certainly written.
	ending    bool     // No more statements: the end looks at what was done.
	probed    *bool    // Then: whether it may have written at all.
	poison    *Error   // The error that made it unable to commit.
	unstarted *Error   // While idle: the error of the last statement, which found nothing started to run in.
	voted     bool     // The coordinator may count on its vote: only the decision finishes it.
	vote      *v1.Vote // What it votes, once that is known.
}

func newBranch(tx *Global, made *v1.Branch, witness witnessTable, db *sql.DB, l *link, kind engine, facts any) (*Branch, error) {
	b := &Branch{tx: tx, branch: xid{tx.gtrid, made.GetBqual()}, resource: made.GetResource(), witness: witness, db: db,
		rows: map[*branchRows]bool{}, stmts: map[*branchStmt]bool{}}
	b.attach(l, kind, facts)
	b.pool = sql.OpenDB(branchConnector{b})
	var err error
	b.conn, err = b.pool.Conn(context.Background())
	return b, err
}

// attach makes the branch run over a connection.
func (b *Branch) attach(l *link, kind engine, facts any) {
	b.link, b.session = l, kind.session(l, facts, b.branch, b.witness)
}

// Resource answers the name of the resource that it runs on.
func (b *Branch) Resource() string { return b.resource }

// Bqual answers its id within the transaction.
func (b *Branch) Bqual() string { return b.branch.bqual }

// Conn answers the connection to run the application's SQL on. The first statement starts the branch. Any error of a
// statement poisons the branch: it will vote FAILED, because MariaDB and MySQL would still prepare what is left of it after
// a lock wait timeout, a killed query or a duplicate key; see ExpectErrors. Errors are *Error with the driver's own behind
// it (errors.As): DATABASE_ERROR (metadata error_code, sqlstate), DATABASE_UNREACHABLE, SESSION_IN_TRANSACTION if the
// connection came out of the pool with an open transaction (nothing ran; open the branch again, on another connection),
// SESSION_RESET, XA_NOT_SUPPORTED, BRANCH_POISONED after an earlier error, BRANCH_ENDED after Commit, Prepare or Rollback.
//
// It is the transaction: BeginTx is refused (SESSION_HOLDS_BRANCH). Close only rows and statements; the connection ends
// with the branch.
func (b *Branch) Conn() *sql.Conn { return b.conn }

// usable: with b.mu held.
func (b *Branch) usable() *Error {
	ids := map[string]string{"gtrid": b.branch.gtrid, "bqual": b.branch.bqual}
	if b.ending || b.stage != stageIdle && b.stage != stageActive || b.vote != nil {
		return newError(BranchEnded, "branch '"+b.branch.bqual+"' of '"+b.branch.gtrid+
			"' has ended; begin a new global transaction", ids)
	}
	if b.poison != nil {
		for name, value := range b.poison.Metadata {
			if ids[name] == "" {
				ids[name] = value
			}
		}
		return newError(BranchPoisoned, "branch '"+b.branch.bqual+"' cannot commit any more after: "+b.poison.Message+
			"; roll the global transaction back and begin a new one", ids).because(b.poison)
	}
	return nil
}

func (b *Branch) poisonWith(why *Error) *Error {
	b.poison = why
	return why
}

// begun takes down what the answer to the beginning says. With b.mu held.
func (b *Branch) begun(result xaResult) *Error {
	if result.outcome == xaOK {
		b.stage, b.unstarted = stageActive, nil
		return nil
	}
	why := xaErrorOf(verbStart, result.outcome, result.failure)
	if result.outcome != xaOutside {
		return b.poisonWith(why)
	}
	// Nothing was started, so nothing is broken: it may be tried again, on another connection.
	b.unstarted = why
	return why
}

// ensureStarted starts the branch if no statement has. With b.mu held.
func (b *Branch) ensureStarted(ctx context.Context) *Error {
	if b.stage == stageActive {
		return nil
	}
	return b.begun(b.session.start(ctx))
}

// failed is what a statement's error means for the branch, and what the application is told. With b.mu held.
func (b *Branch) failed(ctx context.Context, failure *dbError) *Error {
	why := failure.asError("the statement failed")
	if !failure.lost() && failure.code != erLockDeadlock && expects(ctx, failure) {
		return why // A deadlock's victim and a lost connection are beyond any expectation.
	}
	if b.poison != nil {
		return why
	}
	return b.poisonWith(why)
}

// abandon lets go of the connection; one that may hold the branch still is closed. With b.mu held, once.
func (b *Branch) letGo() {
	discard := false
	switch b.stage {
	case stageActive, stagePrepared, stageInDoubt:
		discard = true
	}
	b.closeOpen()
	b.link.unpin(discard || b.session.wasReset())
	_ = b.pool.Close() // Not the connection out of it: the application's conn answers BRANCH_ENDED from now on.
}

// closeOpen closes what the application has not: it would use the connection after the branch. With b.mu held.
func (b *Branch) closeOpen() {
	for rows := range b.rows { // First: the connection is busy with them.
		delete(b.rows, rows)
		_ = rows.end()
	}
	for stmt := range b.stmts {
		delete(b.stmts, stmt)
		_ = stmt.Stmt.Close()
	}
}

type expectation struct {
	numbers []int
	states  []string
}

type expectationKey struct{}

// ExpectErrors names database errors that the application is ready for, in statements that run with this context: they
// are answered and do not poison the branch. The statement itself had no effect then. By number (MariaDB, MySQL: 1062,
// duplicate key). A deadlock's victim and a lost connection are beyond any expectation.
func ExpectErrors(ctx context.Context, numbers ...int) context.Context {
	before := expectationOf(ctx)
	return context.WithValue(ctx, expectationKey{}, expectation{append(before.numbers[:len(before.numbers):len(before.numbers)], numbers...), before.states})
}

// ExpectSQLStates is the same by SQLSTATE (every engine: "23505", unique_violation, on PostgreSQL; "23000" on MariaDB). On
// PostgreSQL the statement then runs behind a savepoint of its own.
func ExpectSQLStates(ctx context.Context, states ...string) context.Context {
	before := expectationOf(ctx)
	return context.WithValue(ctx, expectationKey{}, expectation{before.numbers, append(before.states[:len(before.states):len(before.states)], states...)})
}

func expectationOf(ctx context.Context) expectation {
	found, _ := ctx.Value(expectationKey{}).(expectation)
	return found
}

func (e expectation) exists() bool { return len(e.numbers) > 0 || len(e.states) > 0 }

func expects(ctx context.Context, failure *dbError) bool {
	expected := expectationOf(ctx)
	for _, number := range expected.numbers {
		if failure.code == number {
			return true
		}
	}
	for _, state := range expected.states {
		if failure.sqlstate == state {
			return true
		}
	}
	return false
}

// votes make the three kinds of a vote.
func (b *Branch) votes(kind v1.VoteKind) *v1.Vote {
	b.vote = &v1.Vote{Bqual: b.branch.bqual, Kind: kind}
	if kind == v1.VoteKind_VOTE_KIND_PREPARED {
		b.vote.Session, b.vote.Witnessed = b.session.describe(), b.witness.exists()
	}
	return b.vote
}

func (b *Branch) votesFailed(rolledBack bool) *v1.Vote {
	vote := b.votes(v1.VoteKind_VOTE_KIND_FAILED)
	vote.RolledBack = rolledBack
	code, _ := strconv.Atoi(b.poison.Metadata["error_code"])
	vote.Failure = &v1.BranchFailure{ErrorCode: int32(code), Sqlstate: b.poison.Metadata["sqlstate"],
		Message: cutText(b.poison.Message, maxFailureBytes)}
	b.stage = stageInDoubt
	if rolledBack {
		b.stage = stageFinished
	}
	return vote
}

func (b *Branch) completion(result v1.Completion_Result) *v1.Completion {
	return &v1.Completion{Gtrid: b.branch.gtrid, Bqual: b.branch.bqual, Result: result}
}
