package assent_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
)

func TestAConnectionThatIsInATransactionIsRefused(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		r.dbs[0].SetMaxOpenConns(1)
		_, err := r.dbs[0].Exec("BEGIN") // Somebody has left it in the pool so.
		must(t, err)
		_, err = r.dbs[0].Exec("UPDATE shop.t SET v = 0 WHERE id = 3")
		must(t, err)
		tx, err := r.client.Begin(ctx)
		must(t, err)
		err = tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1))
		known := expectReason(t, err, assent.SessionInTransaction)
		if !strings.Contains(known.Message, "use another session") {
			t.Error(known.Message)
		}
		err = tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)) // Poisoned by its function's error.
		expectReason(t, err, assent.BranchPoisoned)
		_ = tx.Close()
		r.expectValues(t, 1, 100)
	})
}

func TestABranchThatCouldNotBeginDoesNotCommit(t *testing.T) {
	r := newRig(t, kinds[0])
	r.dbs[0].SetMaxOpenConns(1)
	_, err := r.dbs[0].Exec("BEGIN")
	must(t, err)
	tx, err := r.client.Begin(ctx)
	must(t, err)
	branch, err := tx.OpenBranch(ctx, "orders", r.dbs[0])
	must(t, err)
	_, err = branch.Conn().ExecContext(ctx, "UPDATE shop.t SET v = 0")
	expectReason(t, err, assent.SessionInTransaction)
	must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 1)))
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
		t.Error(err)
	}
	r.expectValues(t, 1, 100, 100)
	_, err = r.dbs[0].Exec("ROLLBACK") // It is the pool's again, as it was.
	must(t, err)
	r.transferAgain(t)
}

func TestAutocommitOff(t *testing.T) {
	r := newRig(t, kind{"mariadb", [2]string{"m", "m"}, "multiStatements=true&autocommit=0"})
	must(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
		r.transfer(ctx, t, tx)
		return nil
	}))
	r.expectValues(t, 1, 99, 101)
	r.dbs[0].SetMaxOpenConns(1)
	_, err := r.dbs[0].Exec("UPDATE shop.t SET v = 0 WHERE id = 2") // Begins a transaction.
	must(t, err)
	tx, err := r.client.Begin(ctx)
	must(t, err)
	defer tx.Close()
	expectReason(t, tx.Branch(ctx, "orders", r.dbs[0], add(1, 1)), assent.SessionInTransaction)
}

func TestDDLInsideABranch(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 1)))
	err = tx.Branch(ctx, "orders", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		must(t, add(1, 1)(ctx, conn))
		_, err := conn.ExecContext(ctx, "CREATE TABLE shop.other (id INT)")
		return err
	})
	known := expectReason(t, err, assent.DatabaseError)
	if known.Metadata["error_code"] != "1399" || !strings.Contains(known.Message, "leave it out of the branch") {
		t.Error(known)
	}
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
		t.Error(err)
	}
	r.expectValues(t, 1, 100, 100)
}

func TestAnAccountThatMayNotLeaveTheWitnessIsToldItsGrant(t *testing.T) {
	r := newRig(t, kinds[0])
	_, err := r.plain[1].Exec("CREATE USER clerk IDENTIFIED BY 'clerk'")
	must(t, err)
	_, err = r.plain[1].Exec("GRANT SELECT, UPDATE ON shop.* TO clerk")
	must(t, err)
	defer func() { _, _ = r.plain[1].Exec("DROP USER clerk") }()
	clerk, err := sql.Open("mysql", fmt.Sprintf("clerk:clerk@tcp(%s)/", r.servers[1].Address()))
	must(t, err)
	defer clerk.Close()
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, "orders", r.dbs[0], add(1, -1)))
	must(t, tx.Branch(ctx, "payments", clerk, add(1, 1)))
	err = tx.Commit(ctx)
	if !errors.Is(err, assent.ErrRolledBack) || !strings.Contains(err.Error(), "GRANT INSERT ON `assent`.`witness`") {
		t.Error(err)
	}
	r.expectValues(t, 1, 100, 100)
}

func TestTransactionsInsideABranchAreRefused(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx)
		must(t, err)
		defer tx.Close()
		must(t, tx.Branch(ctx, r.names[0], r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
			_, err := conn.BeginTx(ctx, nil)
			expectReason(t, err, assent.SessionHoldsBranch)
			must(t, add(1, 1)(ctx, conn))
			for _, statement := range []string{"SAVEPOINT a", "ROLLBACK TO SAVEPOINT a"} {
				_, err := conn.ExecContext(ctx, statement)
				must(t, err)
			}
			_, err = conn.ExecContext(ctx, "/* now */ commit")
			if err == nil {
				t.Error("COMMIT ran")
			}
			return nil
		}))
		if err := tx.Commit(ctx); err == nil {
			t.Error("committed")
		}
		r.expectValues(t, 1, 100)
	})
}

func TestADeadlineThatPassesInAStatement(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		other, err := r.plain[0].Begin()
		must(t, err)
		_, err = other.Exec("UPDATE shop.t SET v = v WHERE id = 1")
		must(t, err)
		tx, err := r.client.Begin(ctx)
		must(t, err)
		must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 2)))
		_, err = tx.OpenBranch(ctx, r.names[0], r.dbs[0])
		must(t, err)
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		err = tx.Branch(short, r.names[0], r.dbs[0], add(1, 1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		must(t, other.Rollback())
		if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
			t.Error(err)
		}
		r.expectValues(t, 1, 100)
		r.expectValues(t, 2, 100, 100)
		r.expectIdle(t)
	})
}

func TestAContextThatHasEndedBeforeTheVoteRollsBack(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx)
		must(t, err)
		r.transfer(ctx, t, tx)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		err = tx.Commit(ended)
		expectReason(t, err, assent.GlobalRolledBack)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		r.expectValues(t, 1, 100, 100)
		r.expectIdle(t)
	})
}

func TestADeadlineThatPassesDuringPrepare(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	r.transfer(ctx, t, tx)
	backup, err := r.plain[1].Conn(ctx)
	must(t, err)
	defer backup.Close()
	locked := make(chan error, 1)
	go func() { // PREPARE waits for it; it itself waits for nothing but the statements.
		_, err := backup.ExecContext(ctx, "BACKUP STAGE START")
		for _, stage := range []string{"FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"} {
			if err == nil {
				_, err = backup.ExecContext(ctx, "BACKUP STAGE "+stage)
			}
		}
		locked <- err
	}()
	must(t, <-locked)
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err = tx.Commit(short)
	known := expectReason(t, err, assent.OutcomeInDoubt)
	if took := time.Since(begun); took > 10*time.Second || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, assent.ErrInDoubt) {
		t.Error(took, known)
	}
	_, err = backup.ExecContext(ctx, "BACKUP STAGE END")
	must(t, err)
	err = tx.Commit(ctx) // How it ended, now.
	if !errors.Is(err, assent.ErrRolledBack) {
		t.Error(err)
	}
	r.expectValues(t, 1, 100, 100)
	r.expectIdle(t)
	r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
}

func TestAKilledConnection(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx)
		must(t, err)
		must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
		must(t, tx.Branch(ctx, r.names[0], r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
			must(t, add(1, 1)(ctx, conn))
			r.killSession(t, 0, conn)
			_, err := conn.ExecContext(ctx, "UPDATE shop.t SET v = 5 WHERE id = 2")
			expectReason(t, err, assent.DatabaseUnreachable)
			return nil
		}))
		if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
			t.Error(err)
		}
		r.expectValues(t, 1, 100, 100)
		r.expectValues(t, 2, 100, 100)
		r.expectIdle(t)
		r.transferAgain(t)
	})
}

func (r *rig) killSession(t *testing.T, server int, conn *sql.Conn) {
	t.Helper()
	ask, kill := "SELECT CONNECTION_ID()", "KILL %d"
	if r.servers[server].Driver() == "pgx" {
		ask, kill = "SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%d)"
	}
	var id int64
	must(t, conn.QueryRowContext(ctx, ask).Scan(&id))
	r.sql(t, server, fmt.Sprintf(kill, id))
	time.Sleep(50 * time.Millisecond)
}

// What a proxy does that hands the statements to another connection: the session's mark is gone.
func TestASessionThatWasTakenAway(t *testing.T) {
	for _, k := range kinds[:2] {
		k := k
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k)
			tx, err := r.client.Begin(ctx)
			must(t, err)
			must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 1)))
			must(t, tx.Branch(ctx, "orders", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
				_, err := conn.ExecContext(ctx, "SET @assent_branch = NULL")
				return err
			}))
			err = tx.Commit(ctx)
			known := expectReason(t, err, assent.OutcomeInDoubt)
			if known.Metadata["cause"] != "SESSION_RESET" || !strings.Contains(known.Message, "look at the rows") {
				t.Error(known)
			}
			r.expectValues(t, 1, 100, 100)
			r.expectIdle(t)
			r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
			r.transferAgain(t)
		})
	}
}

func TestATransactionThatWasEndedBesideItsBranch(t *testing.T) {
	r := newRig(t, kinds[2])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	must(t, tx.Branch(ctx, "stock", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		must(t, add(1, 1)(ctx, conn))
		_, err := conn.ExecContext(ctx, "SELECT 1; COMMIT") // Hidden well.
		must(t, err)
		return add(5, 2)(ctx, conn) // This commits by itself.
	}))
	must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 1)))
	err = tx.Commit(ctx)
	known := expectReason(t, err, assent.OutcomeInDoubt)
	if !strings.Contains(known.Message, "look at the rows") {
		t.Error(known)
	}
	if r.value(t, 1, 1) != 100 {
		t.Error("the other branch was committed")
	}
}

func TestManyGoroutinesInOneBranch(t *testing.T) {
	r := newRig(t, kinds[0])
	must(t, r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
		var all sync.WaitGroup
		for i := 0; i < 8; i++ {
			i := i
			all.Add(1)
			go func() {
				defer all.Done()
				if err := tx.Branch(ctx, r.names[i%2], r.dbs[i%2], add(1, 1)); err != nil {
					t.Error(err)
				}
			}()
		}
		all.Wait()
		return nil
	}))
	r.expectValues(t, 1, 104, 104)
	r.expectIdle(t)
}

func TestACommitWhileAStatementRuns(t *testing.T) {
	r := newRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	branch, err := tx.OpenBranch(ctx, "orders", r.dbs[0])
	must(t, err)
	must(t, add(1, 1)(ctx, branch.Conn()))
	ran := make(chan error, 1)
	go func() {
		_, err := branch.Conn().ExecContext(ctx, "DO SLEEP(0.2)")
		ran <- err
	}()
	time.Sleep(50 * time.Millisecond)
	must(t, tx.Commit(ctx)) // Waits for it.
	must(t, <-ran)
	_, err = branch.Conn().ExecContext(ctx, "UPDATE shop.t SET v = 0")
	expectReason(t, err, assent.BranchEnded)
	_, err = branch.Conn().ExecContext(ctx, "UPDATE shop.t SET v = ?", 0)
	expectReason(t, err, assent.BranchEnded)
	r.expectValues(t, 1, 101)
}

func TestTheDeadlineRollsBack(t *testing.T) {
	forKinds(t, func(t *testing.T, r *rig) {
		tx, err := r.client.Begin(ctx, assent.WithTimeout(2*time.Second))
		must(t, err)
		r.transfer(ctx, t, tx)
		time.Sleep(2200 * time.Millisecond)
		known := expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
		if known.Metadata["cause"] != "DEADLINE" && known.Metadata["cause"] != "DECISION_CAUSE_DEADLINE" {
			t.Error(known.Metadata)
		}
		sole, err := r.client.Begin(ctx, assent.WithSoleParticipant(), assent.WithTimeout(time.Millisecond))
		must(t, err)
		r.transfer(ctx, t, sole)
		time.Sleep(5 * time.Millisecond)
		expectReason(t, sole.Commit(ctx), assent.GlobalRolledBack)
		r.expectValues(t, 1, 100, 100)
	})
}

// A failed transaction, or a branch of somebody else's, that a connection came out of its pool with.
func TestAConnectionThatIsBroughtInABadStateStartsNothing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k)
			r.dbs[0].SetMaxOpenConns(1)
			if r.servers[0].Driver() == "mysql" {
				_, err := r.dbs[0].Exec("XA START 'somebody-else'")
				must(t, err)
				defer func() { _, _ = r.dbs[0].Exec("XA END 'somebody-else'") }()
			} else {
				_, err := r.dbs[0].Exec("BEGIN")
				must(t, err)
				_, _ = r.dbs[0].Exec("SELECT 1/0")
			}
			tx, err := r.client.Begin(ctx)
			must(t, err)
			must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
			if err := tx.Branch(ctx, r.names[0], r.dbs[0], add(1, 1)); err == nil {
				t.Error("it ran")
			}
			if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
				t.Error(err)
			}
			r.expectValues(t, 1, 100, 100)
		})
	}
}
