package assent_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"google.golang.org/grpc/codes"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
)

var ctx = context.Background()

func expectReason(t *testing.T, err error, want assent.Reason) *assent.Error {
	t.Helper()
	var known *assent.Error
	if !errors.As(err, &known) || known.Reason != want {
		t.Fatalf("the answer is %v, not %s", err, want)
	}
	return known
}

func TestCommitAndRollback(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		for name, options := range map[string][]assent.BeginOption{
			"asked":   nil,
			"created": {assent.WithResources(r.names[:]...)},
			"sole":    {assent.WithSoleParticipant()},
		} {
			t.Run(name, func(t *testing.T) {
				before := r.value(t, 0, 1)
				tx, err := r.client.Begin(ctx, options...)
				must(t, err)
				r.transfer(ctx, t, tx)
				must(t, tx.Commit(ctx))
				must(t, tx.Commit(ctx)) // Repeating it answers the same.
				r.expectValues(t, 1, before-1, 200-before+1)
				if tx.Outcome() != v1.Outcome_OUTCOME_COMMITTED {
					t.Error(tx.Outcome())
				}
				r.client.Flush(ctx)
				r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED)

				tx, err = r.client.Begin(ctx, options...)
				must(t, err)
				r.transfer(ctx, t, tx)
				must(t, tx.Rollback(ctx, "changed my mind"))
				must(t, tx.Rollback(ctx, ""))
				expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
				r.expectValues(t, 1, before-1, 200-before+1)
				r.client.Flush(ctx)
				r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
				r.expectIdle(t)
			})
		}
	})
}

func TestSoleParticipantMakesOneCall(t *testing.T) {
	r := newRig(t, kinds[0])
	for i := 0; i < 3; i++ {
		tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
		must(t, err)
		r.transfer(ctx, t, tx)
		if i == 0 { // Ids and terms are there now.
			must(t, tx.Commit(ctx))
			must(t, nil)
			r.client.Flush(ctx)
			continue
		}
		before := r.client.CallsSent()
		must(t, tx.Commit(ctx))
		r.client.Flush(ctx)
		if calls := r.client.CallsSent() - before; calls != 2 { // Finalize, and Completed behind it.
			t.Errorf("%d calls", calls)
		}
	}
}

func TestLeavingScopeRollsBack(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx)
		must(t, err)
		r.transfer(ctx, t, tx)
		must(t, tx.Close())
		must(t, tx.Close())
		r.expectValues(t, 1, 100, 100)
		r.expectIdle(t)
		r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
		_, err = tx.OpenBranch(ctx, r.names[0], r.dbs[0])
		expectReason(t, err, assent.BranchEnded)
	})
}

func TestAFailedStatementPoisonsItsBranch(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx)
		must(t, err)
		must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(-1, 1)))
		// The application does not care.
		must(t, tx.Branch(ctx, r.names[1], r.dbs[1], func(ctx context.Context, conn *sql.Conn) error {
			must(t, add(1, 1)(ctx, conn))
			_, err := conn.ExecContext(ctx, "INSERT INTO shop.t VALUES (1, 1)")
			known := expectReason(t, err, assent.DatabaseError)
			if known.Metadata["error_code"] != "1062" || known.Metadata["sqlstate"] != "23000" {
				t.Error(known.Metadata)
			}
			var native *mysql.MySQLError
			if !errors.As(err, &native) || native.Number != 1062 {
				t.Error("the driver's own error is gone")
			}
			_, err = conn.ExecContext(ctx, "UPDATE shop.t SET v = 7")
			expectReason(t, err, assent.BranchPoisoned)
			return nil
		}))
		err = tx.Commit(ctx)
		if !errors.Is(err, assent.ErrRolledBack) || errors.Is(err, assent.ErrInDoubt) {
			t.Error(err)
		}
		r.expectValues(t, 1, 100, 100)
		r.expectIdle(t)
		r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
	})
}

func TestErrorsInTheMiddleOfRowsPoison(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		must(t, add(1, 1)(ctx, conn))
		var v int // A row that is not looked at: its error comes with the rows.
		err := conn.QueryRowContext(ctx, "SELECT (SELECT id FROM shop.t) FROM shop.t").Scan(&v)
		if err == nil {
			t.Error("no error")
		}
		return nil
	}))
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
		t.Error(err)
	}
	r.expectValues(t, 1, 100)
}

func TestExpectedErrors(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		before := [2]int{r.value(t, 0, 1), r.value(t, 1, 1)}
		tx, err := r.client.Begin(ctx)
		must(t, err)
		for i, db := range r.dbs {
			must(t, tx.Branch(ctx, r.names[i], db, func(ctx context.Context, conn *sql.Conn) error {
				expecting := assent.ExpectSQLStates(assent.ExpectErrors(ctx, 1062), "23505")
				_, err := conn.ExecContext(expecting, "INSERT INTO shop.t VALUES (1, 1)")
				expectReason(t, err, assent.DatabaseError)
				rows, err := conn.QueryContext(expecting, "SELECT 1 FROM shop.t")
				must(t, err)
				must(t, rows.Close())
				return add(1, 1)(ctx, conn)
			}))
		}
		must(t, tx.Commit(ctx))
		r.expectValues(t, 1, before[0]+1, before[1]+1)
	})
}

func TestArgumentsAndPreparedStatements(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		marks := func(i int, text ...string) string {
			if r.servers[i].Driver() == "mysql" {
				return text[0]
			}
			return text[1]
		}
		tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
		must(t, err)
		for i, db := range r.dbs {
			must(t, tx.Branch(ctx, r.names[i], db, func(ctx context.Context, conn *sql.Conn) error {
				if _, err := conn.ExecContext(ctx, marks(i, "UPDATE shop.t SET v = v + ? WHERE id = ?", "UPDATE shop.t SET v = v + $1 WHERE id = $2"), 5, 2); err != nil {
					return err
				}
				stmt, err := conn.PrepareContext(ctx, marks(i, "SELECT v FROM shop.t WHERE id = ?", "SELECT v FROM shop.t WHERE id = $1"))
				if err != nil {
					return err
				}
				var v int
				if err := stmt.QueryRowContext(ctx, 2).Scan(&v); err != nil || v != 105 {
					t.Errorf("%d %v", v, err)
				}
				return nil // The statement is left open: the branch closes it.
			}))
			must(t, tx.Branch(ctx, r.names[i], db, func(ctx context.Context, conn *sql.Conn) error {
				rows, err := conn.QueryContext(ctx, "SELECT id, v FROM shop.t")
				if err == nil && !rows.Next() {
					t.Error("no rows")
				}
				return err // And so are rows.
			}))
		}
		must(t, tx.Commit(ctx))
		r.expectValues(t, 2, 105, 105)
		r.expectIdle(t)
		r.transferAgain(t)
	})
}

// transferAgain uses the very connections again.
func (r *rig) transferAgain(t *testing.T) {
	t.Helper()
	before := r.value(t, 0, 1)
	must(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
		r.transfer(ctx, t, tx)
		return nil
	}))
	r.expectValues(t, 1, before-1)
}

func TestReadOnlyOnPostgres(t *testing.T) {
	r := newRig(t, kinds[2])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		var v int
		return conn.QueryRowContext(ctx, "SELECT v FROM shop.t WHERE id = 1").Scan(&v)
	}))
	must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
	must(t, tx.Commit(ctx))
	r.client.Flush(ctx)
	answer, err := r.assentd.Calls.GetGlobal(ctx, &v1.GetGlobalRequest{Gtrid: tx.Gtrid()})
	must(t, err)
	if answer.Global.Branches[0].State != v1.Branch_STATE_READ_ONLY {
		t.Error(answer.Global.Branches[0].State)
	}
}

func TestUnusedBranchesDoNotHinder(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx, assent.WithResources(r.names[:]...))
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 3)))
	_, err = tx.OpenBranch(ctx, r.names[1], r.dbs[1]) // Opened, and nothing run.
	must(t, err)
	must(t, tx.Commit(ctx))
	r.expectValues(t, 3, 101, 100)
}

func TestWorkersInOtherProcesses(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		before := r.value(t, 0, 1)
		tx, err := r.client.Begin(ctx)
		must(t, err)
		worker := func(i, v int) (*assent.Global, error) {
			joined, err := r.newClient2(t).Join(tx.Gtrid())
			must(t, err)
			return joined, joined.Branch(ctx, r.names[i], r.dbs[i], add(v, 1))
		}
		one, err := worker(0, -1)
		must(t, err)
		two, err := worker(1, 1)
		must(t, err)
		known := expectReason(t, tx.Commit(ctx), assent.BranchesNotPrepared)
		if known.Metadata["missing_count"] != "2" || tx.Outcome() != v1.Outcome_OUTCOME_UNSPECIFIED {
			t.Error(known.Metadata, tx.Outcome())
		}
		ends := make(chan error, 2)
		go func() { ends <- one.Prepare(ctx) }()
		go func() { ends <- two.Prepare(ctx) }()
		for {
			err := tx.Commit(ctx)
			if err == nil {
				break
			}
			expectReason(t, err, assent.BranchesNotPrepared)
			time.Sleep(5 * time.Millisecond)
		}
		must(t, <-ends)
		must(t, <-ends)
		r.expectValues(t, 1, before-1)
		r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED)
	})
}

// newClient2 is another process's, as far as the coordinator can tell.
func (r *rig) newClient2(t *testing.T) *assent.Client {
	client, err := assent.NewClient(r.assentd.Address(), assent.WithLogger(testLog{t}))
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestWhenAllPrepared(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx, assent.WithPolicy(assent.WhenAllPrepared), assent.WithExpectedBranches(2))
	must(t, err)
	ends := make(chan error, 2)
	for i := range r.names {
		i := i
		joined, err := r.client.Join(tx.Gtrid())
		must(t, err)
		must(t, joined.Branch(ctx, r.names[i], r.dbs[i], add(1, 1)))
		go func() { ends <- joined.Prepare(ctx) }()
	}
	must(t, <-ends)
	must(t, <-ends)
	tx.Leave()
	must(t, tx.Close())
	r.expectValues(t, 1, 101, 101)
	r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED)
}

func TestAWorkersFailureRollsBackEverybody(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
	joined, err := r.client.Join(tx.Gtrid())
	must(t, err)
	must(t, joined.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
	must(t, joined.Close()) // Its FAILED vote.
	err = tx.Commit(ctx)
	expectReason(t, err, assent.GlobalRolledBack)
	r.expectValues(t, 1, 100, 100)
}

func TestVoteAnswersBeforeTheDecision(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		before := [2]int{r.value(t, 0, 1), r.value(t, 1, 1)}
		for _, commit := range []bool{true, false} {
			tx, err := r.client.Begin(ctx)
			must(t, err)
			must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
			joined, err := r.client.Join(tx.Gtrid())
			must(t, err)
			must(t, joined.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
			must(t, joined.Vote(ctx))
			must(t, joined.Close())
			if commit {
				must(t, tx.Commit(ctx))
				must(t, joined.Prepare(ctx))
				before[0]++
				before[1]++
			} else {
				must(t, tx.Rollback(ctx, ""))
				expectReason(t, joined.Prepare(ctx), assent.GlobalRolledBack)
			}
			r.expectIdle(t)
			r.expectValues(t, 1, before[0], before[1])
		}
	})
}

func TestWhatBeginAndJoinRefuse(t *testing.T) {
	r := newRig(t, kinds[0])
	_, err := r.client.Begin(ctx, assent.WithSoleParticipant(), assent.WithExpectedBranches(2))
	expectReason(t, err, assent.InvalidField)
	_, err = r.client.Begin(ctx, assent.WithSoleParticipant(), assent.WithGtrid("mine"))
	expectReason(t, err, assent.InvalidField)
	_, err = r.client.Begin(ctx, assent.WithGtrid("sixty-five bytes are one more than the sixty-four that an id may have!"))
	expectReason(t, err, assent.InvalidGtrid)
	_, err = r.client.Join("no'quotes")
	if known := expectReason(t, err, assent.InvalidGtrid); known.Metadata["problem"] != "has the byte 0x27 at position 2" {
		t.Error(known.Metadata)
	}
	_, err = r.client.Begin(ctx, assent.WithTimeout(-time.Second))
	expectReason(t, err, assent.InvalidTimeout)
	_, err = r.client.Begin(ctx, assent.WithTimeout(time.Nanosecond), assent.WithSoleParticipant())
	expectReason(t, err, assent.InvalidTimeout)
	for _, options := range [][]assent.BeginOption{nil, {assent.WithSoleParticipant()}} {
		tx, err := r.client.Begin(ctx, options...)
		must(t, err)
		_, err = tx.OpenBranch(ctx, "", r.dbs[0])
		if known := expectReason(t, err, assent.InvalidField); known.Metadata["field"] != "resource" || !strings.Contains(known.Message, "resource") {
			t.Error(err)
		}
		expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack) // As for every branch that could not be opened.
	}
	// Only Commit can refuse it, which says why.
	long, err := r.client.Begin(ctx, assent.WithTimeout(72*time.Hour), assent.WithSoleParticipant(), assent.WithOnePhaseCommit(false))
	must(t, err)
	must(t, long.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
	if err := long.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) || !strings.Contains(err.Error(), "timeout 72h") || !strings.Contains(err.Error(), "24h") {
		t.Error(err)
	}
	tx, err := r.client.Begin(ctx)
	must(t, err)
	_, err = tx.OpenBranch(ctx, "nobody", r.dbs[0])
	expectReason(t, err, assent.ResourceNotFound)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)))
	err = tx.Commit(ctx) // What was to be done on 'nobody' was not.
	if expectReason(t, err, assent.GlobalRolledBack).Code != codes.Aborted {
		t.Error(err)
	}
	r.expectValues(t, 1, 100)
	// Another cluster's, and one that nobody knows.
	joined, err := r.client.Join("other-01ARZ3NDEKTSV4RRFFQ69G5FAV")
	must(t, err)
	_, err = joined.OpenBranch(ctx, r.names[0], r.dbs[0])
	expectReason(t, err, assent.InvalidGtrid)
	joined, err = r.client.Join(r.assentd.Cluster + "-nobody")
	must(t, err)
	_, err = joined.OpenBranch(ctx, r.names[0], r.dbs[0])
	expectReason(t, err, assent.GlobalNotFound)
	// A sole participant's has no record: nobody can join it.
	sole, err := r.client.Begin(ctx, assent.WithSoleParticipant())
	must(t, err)
	joined, err = r.client.Join(sole.Gtrid())
	must(t, err)
	_, err = joined.OpenBranch(ctx, r.names[0], r.dbs[0])
	expectReason(t, err, assent.GlobalNotFound)
}

func TestTheWrongServerIsRefused(t *testing.T) {
	r := newRig(t, kinds[0])
	for _, options := range [][]assent.BeginOption{nil, {assent.WithSoleParticipant()}} {
		tx, err := r.client.Begin(ctx, options...)
		must(t, err)
		_, err = tx.OpenBranch(ctx, r.names[1], r.dbs[0])
		expectReason(t, err, assent.WrongServer)
		must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1))) // The right one, then.
		must(t, tx.Commit(ctx))
	}
	r.expectValues(t, 1, 100, 102)
	r.expectIdle(t)
}

// What it writes there is not part of its own transaction's id, and must not be committed before the decision.
func TestAForeignTableIsNoWayAroundTheDecision(t *testing.T) {
	r := newRig(t, kinds[2])
	server := r.servers[0]
	r.sql(t, 0, "CREATE EXTENSION IF NOT EXISTS postgres_fdw")
	r.sql(t, 0, fmt.Sprintf("CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '%d')", server.Port))
	defer r.sql(t, 0, "DROP SERVER far CASCADE")
	r.sql(t, 0, fmt.Sprintf("CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password '%s')", server.Password))
	r.sql(t, 0, "CREATE FOREIGN TABLE shop.far (id BIGINT, v BIGINT) SERVER far OPTIONS (schema_name 'shop', table_name 't')")
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		var id int
		return conn.QueryRowContext(ctx, "WITH w AS (INSERT INTO shop.far VALUES (100, 1) RETURNING id) SELECT id FROM w").Scan(&id)
	}))
	must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
	if err := tx.Commit(ctx); err == nil || !strings.Contains(err.Error(), "postgres_fdw") {
		t.Error(err)
	}
	r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
	var rows int
	must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM shop.t WHERE id = 100").Scan(&rows))
	if rows != 0 {
		t.Error("the other server's part was committed")
	}
	r.expectValues(t, 1, 100, 100)
}
