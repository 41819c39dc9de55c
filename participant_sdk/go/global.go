package assent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "assent.example/assent/assentv1"
)

const (
	// Close does not wait for long: what it could not tell the coordinator ends by its deadline.
	scopePatience = 5 * time.Second
	// The coordinator refuses longer ones, and a reason must not be what a rollback fails for.
	maxReasonBytes = 1000
	// As the coordinator's limit: what it would refuse when it is too late is refused before.
	maxSoleBranches = 1000
)

// Global is a global transaction, as one process sees it.
//
// One process that owns all connections: Begin, Branch for each database, Commit. Many processes: Begin here and hand
// Gtrid to the workers over any channel; each worker calls Client.Join, Branch, Prepare. Prepare votes, waits for the
// decision and finishes on the same connections.
//
// Commit, Prepare and Rollback have three outcomes, and no fourth:
//
//	nil                                committed (Rollback: rolled back), proven on every branch
//	errors.Is(err, ErrRolledBack)      rolled back: do the whole work again
//	errors.Is(err, ErrInDoubt)         decided or perhaps decided, not proven; the coordinator goes on with it
//
// Every other error comes before any decision; the transaction is still open, and Close rolls it back. (But Rollback of what
// has been committed: GLOBAL_COMMITTED.)
//
// Safe for concurrent use: branches run at the same time, the ends one after the other.
type Global struct {
	client *Client
	gtrid  string
	policy Policy
	joined bool // Begun by another process.
	sole   bool // Finalize creates it.

	timeout time.Duration
	begun   time.Time
	// Commit may do without PREPARE where only one branch has written.
	mayEndInOnePhase bool

	mu               sync.Mutex   // Guards what follows; held while a branch is opened and while the transaction ends.
	created          []*v1.Branch // By Begin, not yet opened.
	branches         []*Branch
	refused          map[string]*Error // The resources on which the last opening of a branch failed.
	ended            bool              // Commit, Prepare, Vote or Rollback was called.
	concluded        bool              // result is final.
	onePhase         *Branch           // Was told to commit in one phase, and is not known to have failed.
	left             bool
	voted            bool // Vote has left the rest to finishVoted.
	closed           bool
	rollbackPatience time.Duration
	result           *Error
	outcome          v1.Outcome
}

func newGlobal(client *Client, gtrid string, policy Policy) *Global {
	return &Global{client: client, gtrid: gtrid, policy: policy, begun: time.Now(), refused: map[string]*Error{},
		rollbackPatience: client.options.callPatience}
}

// Gtrid answers the transaction's id: what another process joins it by.
func (tx *Global) Gtrid() string { return tx.gtrid }

// IsSole tells whether it was begun WithSoleParticipant, so that nobody can join it.
func (tx *Global) IsSole() bool { return tx.sole }

// Outcome answers COMMITTED, ROLLED_BACK or IN_DOUBT as far as this process knows; UNSPECIFIED before any decision.
func (tx *Global) Outcome() v1.Outcome {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.outcome
}

// Branch runs fn inside the transaction's branch on a registered resource, over one connection of db. The first call
// takes the connection out of the pool; later ones with the same resource and db go on with the same branch. No SQL of a
// branch is sent before fn's first statement. If fn answers an error or panics the branch is poisoned, and Commit rolls
// everything back. fn's error is answered as it is; see Branch.Conn for what statements answer, OpenBranch for the rest.
func (tx *Global) Branch(ctx context.Context, resource string, db *sql.DB, fn func(ctx context.Context, conn *sql.Conn) error) (err error) {
	branch, err := tx.OpenBranch(ctx, resource, db)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		switch {
		case !done:
			branch.fail(errors.New("the function panicked"))
		case err != nil:
			branch.fail(err)
		}
	}()
	err = fn(NewContext(ctx, tx), branch.conn)
	done = true
	return err
}

// fail poisons the branch for a reason of the application's.
func (b *Branch) fail(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.poison == nil && b.vote == nil {
		b.poison = newError(BranchPoisoned, "the function of branch '"+b.branch.bqual+"' failed: "+cause.Error(),
			map[string]string{"gtrid": b.branch.gtrid, "bqual": b.branch.bqual}).because(cause)
	}
}

// OpenBranch is Branch without a function: run SQL over Branch.Conn until the transaction ends.
//
// Errors: BRANCH_ENDED once Commit, Prepare or Rollback was called; DATABASE_UNREACHABLE if the pool gives no connection;
// INVALID_FIELD if the resource's name is empty; the coordinator's (RESOURCE_NOT_FOUND, GLOBAL_ROLLED_BACK, …); COORDINATOR_UNREACHABLE; WRONG_SERVER. After an error it
// may be tried again; while a resource's last try has failed, Commit and Prepare roll back, because what was to be done
// there was not.
func (tx *Global) OpenBranch(ctx context.Context, resource string, db *sql.DB) (*Branch, error) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended || tx.closed {
		return nil, newError(BranchEnded, "global transaction '"+tx.gtrid+"' has ended here; begin a new one",
			map[string]string{"gtrid": tx.gtrid})
	}
	branch, refused := tx.openBranch(ctx, resource, db)
	if refused != nil {
		tx.refused[resource] = refused
		return nil, refused
	}
	delete(tx.refused, resource)
	return branch, nil
}

// openBranch: with tx.mu held.
func (tx *Global) openBranch(ctx context.Context, resource string, db *sql.DB) (*Branch, *Error) {
	if resource == "" {
		return nil, newError(InvalidField, "the name of the branch's resource is empty; it is one of `assentctl resources list`",
			map[string]string{"field": "resource", "gtrid": tx.gtrid})
	}
	for _, branch := range tx.branches {
		if branch.resource == resource && branch.db == db {
			return branch, branch.takeAnother(ctx)
		}
	}
	l, kind, facts, failed := tx.client.connect(ctx, db)
	if failed != nil {
		return nil, failed
	}
	branch, failed := tx.makeBranch(ctx, resource, db, l, kind, facts)
	if failed != nil {
		l.unpin(false)
		return nil, failed
	}
	tx.branches = append(tx.branches, branch)
	return branch, nil
}

// connect takes a connection out of the pool and learns, if nobody knows yet, what is behind it.
func (c *Client) connect(ctx context.Context, db *sql.DB) (*link, engine, any, *Error) {
	l, err := pin(ctx, db)
	if err != nil {
		failed := newError(DatabaseUnreachable, "the pool gives no connection: "+err.Error(), nil).because(err)
		if ctx.Err() != nil { // Drivers wrap it in words of their own.
			failed.cause = ctx.Err()
		}
		return nil, nil, nil, failed
	}
	known, _ := c.pools.LoadOrStore(db, &pool{})
	kind, facts, failed := known.(*pool).remember(ctx, l)
	if failed != nil {
		l.unpin(false)
		return nil, nil, nil, failed.asError("setting up the session")
	}
	return l, kind, facts, nil
}

// takeAnother connection, if nothing could be started on this one: it came out of the pool with a transaction. (It may be
// the same one, whose transaction has been ended meanwhile.)
func (b *Branch) takeAnother(ctx context.Context) *Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stage != stageIdle || b.unstarted == nil {
		return nil
	}
	b.link.unpin(false) // First: the pool may have no more.
	l, kind, facts, failed := b.tx.client.connect(ctx, b.db)
	if failed != nil {
		return failed
	}
	b.attach(l, kind, facts)
	b.unstarted = nil
	return nil
}

// makeBranch: with tx.mu held.
func (tx *Global) makeBranch(ctx context.Context, resource string, db *sql.DB, l *link, kind engine, facts any) (*Branch, *Error) {
	described := kind.session(l, facts, xid{}, witnessTable{}).describe()
	made, failed := tx.describeBranch(ctx, resource, described)
	if failed != nil {
		return nil, failed
	}
	unopened := func() { // For the right session; or it is voted on, or rolled back, as unused.
		if !tx.sole {
			tx.created = append(tx.created, made)
		}
	}
	if failed := checkServer(described, made.GetResource(), made.GetServer(), made.GetTimeline()); failed != nil {
		unopened()
		return nil, failed
	}
	witness := witnessTable{}
	var err error
	if made.GetWitnessTable() != "" {
		witness, err = parseWitnessTable(made.GetWitnessTable())
	}
	if err == nil {
		err = xid{tx.gtrid, made.GetBqual()}.validate()
	}
	var branch *Branch
	if err == nil {
		branch, err = newBranch(tx, made, witness, db, l, kind, facts)
	}
	if err != nil {
		unopened()
		return nil, errorOf(err)
	}
	return branch, nil
}

// describeBranch says what the branch is to be like: made by Begin, or by the coordinator now, or, for a sole participant,
// here. With tx.mu held.
func (tx *Global) describeBranch(ctx context.Context, resource string, described *v1.Session) (*v1.Branch, *Error) {
	giveUp := time.Now().Add(tx.client.options.callPatience)
	if tx.sole {
		if len(tx.branches) >= maxSoleBranches {
			return nil, newError(TooManyBranches, fmt.Sprintf("a global transaction has at most %d branches", maxSoleBranches),
				map[string]string{"gtrid": tx.gtrid, "limit": fmt.Sprint(maxSoleBranches)})
		}
		terms, failed := tx.client.reservation.termsOf(ctx, resource, giveUp)
		if failed != nil {
			return nil, failed
		}
		return &v1.Branch{Bqual: fmt.Sprintf("b%d", len(tx.branches)+1), Resource: terms.GetResource(),
			WitnessTable: terms.GetWitnessTable(), Server: terms.GetServer(), Timeline: terms.GetTimeline()}, nil
	}
	for i, made := range tx.created {
		if made.GetResource() == resource {
			tx.created = append(tx.created[:i:i], tx.created[i+1:]...)
			return made, nil
		}
	}
	response, failed := tx.client.coordinator.createBranches(ctx, &v1.CreateBranchesRequest{Gtrid: tx.gtrid,
		RequestId: newRequestID(), Branches: []*v1.BranchSpec{{Resource: resource, Session: described}}}, giveUp)
	if failed != nil {
		return nil, failed
	}
	if len(response.GetBranches()) != 1 {
		return nil, newError(ResourceNotFound, "the coordinator did not answer the branch", map[string]string{"resource": resource})
	}
	return response.Branches[0], nil
}

// Leave leaves the transaction as it is: Close will not roll back. For an initiator whose workers decide by
// WhenAllPrepared.
func (tx *Global) Leave() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.left = true
}

// Close ends what this process still has of the transaction; without a decision it rolls back, which for a joined
// transaction means its FAILED vote. Branches in doubt are left to the coordinator and their connections closed, because
// a connection with a prepared branch must never be used for anything else. It may be called at any time and any number
// of times; `defer tx.Close()` right after Begin is the way. Always nil.
func (tx *Global) Close() error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.closed || (tx.voted && !tx.concluded) {
		return nil
	}
	if !tx.concluded {
		// While a vote is out only the decision finishes that branch, and asking for one here could wait for long.
		if tx.left { // Whoever it was left to may have taken them up.
			tx.created = nil
		}
		if tx.onePhase != nil { // Nobody may roll it back any more.
			tx.client.reporter.report([]*v1.Completion{tx.onePhaseReport(v1.Completion_RESULT_UNKNOWN)}, true)
		} else if tx.left || ((tx.joined || tx.sole) && len(tx.branches) == 0) || awaitsDecision(tx.branches) {
			tx.report(tx.rollBackUnvoted())
		} else {
			tx.rollbackPatience = scopePatience
			if failed := tx.rollback("left its scope without a decision"); failed != nil {
				tx.client.options.logger.Printf("assent: gtrid=%s rollback at the end of scope: %v", tx.gtrid, failed)
			}
		}
	}
	tx.letGo()
	tx.closed = true
	return nil
}

// letGo gives connections back to their pools, or closes them. With tx.mu held.
func (tx *Global) letGo() {
	for _, b := range tx.branches {
		b.mu.Lock()
		if !b.link.released {
			if b.stage == stageActive || b.stage == stagePrepared || b.stage == stageInDoubt {
				tx.client.options.logger.Printf("assent: gtrid=%s bqual=%s resource=%s left to the coordinator; its connection is closed",
					b.branch.gtrid, b.branch.bqual, b.resource)
			}
			b.letGo()
		}
		b.mu.Unlock()
	}
}
