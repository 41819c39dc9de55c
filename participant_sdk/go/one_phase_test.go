package assent_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
)

// A sole participant of which only one branch has written: committed in one phase, and on record afterwards.

func (r *rig) prepares(t *testing.T, server int) (count int) {
	t.Helper()
	var name string
	must(t, r.plain[server].QueryRow("SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'").Scan(&name, &count))
	return count
}

// expectOnePhase waits for the record.
func (r *rig) expectOnePhase(t *testing.T, gtrid string, outcome v1.Outcome) *v1.GetGlobalResponse {
	t.Helper()
	var known *v1.GetGlobalResponse
	r.eventually(t, "the record", func() bool {
		var err error
		known, err = r.assentd.Calls.GetGlobal(ctx, &v1.GetGlobalRequest{Gtrid: gtrid}, grpc.WaitForReady(true))
		return err == nil && known.GetOutcome() == outcome
	})
	if known.GetGlobal().GetCause() != v1.DecisionCause_DECISION_CAUSE_ONE_PHASE || !known.GetGlobal().GetBranches()[0].GetOnePhase() {
		t.Error(known)
	}
	return known
}

func (r *rig) eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatal("no end of waiting for " + what)
}

func TestOneWriterIsCommittedInOnePhase(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[1]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k)
			before := r.prepares(t, 0)
			tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
			must(t, err)
			must(t, tx.Branch(ctx, "orders", r.dbs[0], add(-1, 1)))
			must(t, tx.Commit(ctx))
			must(t, tx.Commit(ctx)) // Repeated, it answers the same.
			expectReason(t, tx.Rollback(ctx, ""), assent.GlobalCommitted)
			r.expectValues(t, 1, 99)
			if now := r.prepares(t, 0); now != before {
				t.Errorf("%d branches were prepared", now-before)
			}
			r.expectOnePhase(t, tx.Gtrid(), v1.Outcome_OUTCOME_COMMITTED)
			r.eventually(t, "the sweep of its witness", func() bool {
				var left int
				must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM assent.witness WHERE gtrid = ?", tx.Gtrid()).Scan(&left))
				return left == 0
			})
		})
	}
}

func TestAReaderOnPostgresDoesNotMeanTwoPhases(t *testing.T) {
	r := newRig(t, kinds[2])
	tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
	must(t, err)
	must(t, tx.Branch(ctx, "payments", r.dbs[1], add(-1, 1)))
	must(t, tx.Branch(ctx, "stock", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
		var v int
		return conn.QueryRowContext(ctx, "SELECT v FROM shop.t WHERE id = 1").Scan(&v)
	}))
	must(t, tx.Commit(ctx))
	r.expectValues(t, 1, 100, 99)
	known := r.expectOnePhase(t, tx.Gtrid(), v1.Outcome_OUTCOME_COMMITTED)
	if branches := known.GetGlobal().GetBranches(); len(branches) == 2 && branches[1].GetState() != v1.Branch_STATE_READ_ONLY {
		t.Error(known)
	}
}

func TestWhatMeansTwoPhases(t *testing.T) {
	r := newRig(t, kinds[0])
	other, err := r.client.Begin(ctx, assent.WithSoleParticipant())
	must(t, err)
	must(t, other.Close())
	for name, options := range map[string][]assent.BeginOption{
		"the option":           {assent.WithSoleParticipant(), assent.WithOnePhaseCommit(false)},
		"a gtrid of one's own": {assent.WithSoleParticipant(), assent.WithGtrid(other.Gtrid())},
		"not alone":            {},
		"two writers":          {assent.WithSoleParticipant()},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.prepares(t, 0)
			tx, err := r.client.Begin(ctx, options...)
			must(t, err)
			must(t, tx.Branch(ctx, "orders", r.dbs[0], add(-1, 2)))
			if name == "two writers" {
				must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 2)))
			}
			must(t, tx.Commit(ctx))
			if now := r.prepares(t, 0); now != before+1 {
				t.Errorf("%d branches were prepared", now-before)
			}
			known, err := r.assentd.Calls.GetGlobal(ctx, &v1.GetGlobalRequest{Gtrid: tx.Gtrid()})
			must(t, err)
			if known.GetGlobal().GetCause() != v1.DecisionCause_DECISION_CAUSE_FINALIZE {
				t.Error(known)
			}
		})
	}
}

func TestTheCoordinatorNeedNotBeThereForOnePhase(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
	must(t, err)
	begun := time.Now()
	must(t, tx.Branch(ctx, "orders", r.dbs[0], add(-1, 1)))
	r.assentd.Kill9()
	must(t, tx.Commit(ctx))
	r.expectValues(t, 1, 99)
	time.Sleep(3 * time.Second)
	must(t, r.assentd.Restart())
	known := r.expectOnePhase(t, tx.Gtrid(), v1.Outcome_OUTCOME_COMMITTED)
	if made := known.GetGlobal().GetCreateTime().AsTime(); made.After(begun.Add(time.Second)) {
		t.Errorf("created %v after it was begun", made.Sub(begun))
	}
}

func TestAMissingWitnessTableIsARollback(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[1]} {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k)
			r.sql(t, 0, "RENAME TABLE assent.witness TO assent.hidden")
			defer r.sql(t, 0, "RENAME TABLE assent.hidden TO assent.witness")
			tx, err := r.client.Begin(ctx, assent.WithSoleParticipant())
			must(t, err)
			must(t, tx.Branch(ctx, "orders", r.dbs[0], add(-1, 1)))
			if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) || !strings.Contains(err.Error(), "--replace makes it") {
				t.Error(err)
			}
			r.expectValues(t, 1, 100)
		})
	}
}

// An error that comes out of rows that nobody has read poisons the branch, as with two phases.
func TestAnErrorBehindUnreadRows(t *testing.T) {
	r := newRig(t, kinds[0])
	for _, onePhase := range []bool{true, false} {
		tx, err := r.client.Begin(ctx, assent.WithSoleParticipant(), assent.WithOnePhaseCommit(onePhase))
		must(t, err)
		must(t, tx.Branch(ctx, "orders", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
			must(t, add(-1, 1)(ctx, conn))
			rows, err := conn.QueryContext(ctx, "SELECT 1; INSERT INTO shop.t VALUES (3, 0)")
			must(t, err)
			if !rows.Next() {
				t.Error("no row")
			}
			return nil
		}))
		if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
			t.Error(err)
		}
		r.expectValues(t, 1, 100)
	}
}

// The database has rolled the branch back, and a handler in a procedure has kept that to itself.
func TestASwallowedDeadlockIsNotCommitted(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[1]} {
		for _, onePhase := range []bool{true, false} {
			t.Run(fmt.Sprint(k.name, " one phase ", onePhase), func(t *testing.T) {
				r := newRig(t, k)
				r.sql(t, 0, "DROP PROCEDURE IF EXISTS shop.sly")
				r.sql(t, 0, "CREATE PROCEDURE shop.sly() BEGIN DECLARE CONTINUE HANDLER FOR 1213 BEGIN END; UPDATE shop.t SET v = v + 1 WHERE id = 2; END")
				other, err := r.plain[0].BeginTx(ctx, nil)
				must(t, err)
				defer func() { _ = other.Rollback() }()
				_, err = other.Exec("INSERT INTO shop.t SELECT seq + 100, 0 FROM shop.seq_1_to_50")
				must(t, err)
				_, err = other.Exec("UPDATE shop.t SET v = v WHERE id = 2")
				must(t, err)
				tx, err := r.client.Begin(ctx, assent.WithSoleParticipant(), assent.WithOnePhaseCommit(onePhase))
				must(t, err)
				defer tx.Close()
				waits := make(chan error, 1)
				must(t, tx.Branch(ctx, "orders", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
					must(t, add(-1, 1)(ctx, conn))
					go func() {
						_, err := other.Exec("UPDATE shop.t SET v = v WHERE id = 1")
						waits <- err
					}()
					r.eventually(t, "the other one's wait", func() bool {
						var waiting int
						time.Sleep(200 * time.Millisecond) // Who looks more often is shown the same again.
						must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'").Scan(&waiting))
						return waiting > 0
					})
					_, err := conn.ExecContext(ctx, "CALL shop.sly()")
					return err
				}))
				must(t, <-waits)
				must(t, other.Rollback())
				if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
					t.Error(err)
				}
				r.expectValues(t, 1, 100)
				var left int
				must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM assent.witness WHERE gtrid = ?", tx.Gtrid()).Scan(&left))
				if left != 0 {
					t.Errorf("%d witnesses of a commit that never was", left)
				}
			})
		}
	}
}

// A database that is killed, or whose connection is, while it commits: the coordinator looks.
func TestALostAnswerInOnePhase(t *testing.T) {
	for _, coordinator := range []bool{true, false} {
		for _, k := range []kind{kinds[0], kinds[1]} {
			if !coordinator && k.name != kinds[0].name {
				continue // How the statements travel has nothing to do with it.
			}
			t.Run(fmt.Sprint(k.name, " coordinator ", coordinator), func(t *testing.T) {
				begin := newOwnRig // Its coordinator is killed.
				if coordinator {
					begin = newRig
				}
				r := begin(t, k)
				client := r.newClient(t, assent.WithDecisionPatience(map[bool]time.Duration{true: time.Minute, false: time.Second}[coordinator]))
				tx, err := client.Begin(ctx, assent.WithSoleParticipant())
				must(t, err)
				var session int
				must(t, tx.Branch(ctx, "orders", r.dbs[0], func(ctx context.Context, conn *sql.Conn) error {
					must(t, conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&session))
					return add(-1, 1)(ctx, conn)
				}))
				lock, err := r.plain[0].Conn(ctx)
				must(t, err)
				for _, stage := range []string{"START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"} {
					_, err = lock.ExecContext(ctx, "BACKUP STAGE "+stage)
					must(t, err)
				}
				answer := make(chan error, 1)
				go func() { answer <- tx.Commit(ctx) }()
				r.eventually(t, "the wait for the lock", func() bool {
					var waiting int
					must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ? AND STATE REGEXP 'backup lock|read lock'", session).Scan(&waiting))
					return waiting == 1
				})
				if !coordinator {
					r.assentd.Kill9()
				}
				r.sql(t, 0, fmt.Sprintf("KILL %d", session))
				r.eventually(t, "its end", func() bool {
					var left int
					must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?", session).Scan(&left))
					return left == 0
				})
				_, err = lock.ExecContext(ctx, "BACKUP STAGE END")
				must(t, err)
				err = <-answer
				if !coordinator {
					if !errors.Is(err, assent.ErrInDoubt) || !strings.Contains(err.Error(), "the answer of its database was lost") {
						t.Error(err)
					}
					if err := tx.Rollback(ctx, ""); !errors.Is(err, assent.ErrInDoubt) {
						t.Error("nobody may roll it back any more: ", err)
					}
					if err := tx.Vote(ctx); !errors.Is(err, assent.ErrInDoubt) {
						t.Error(err)
					}
					must(t, r.assentd.Restart())
					r.eventually(t, "its end", func() bool {
						err = tx.Commit(ctx)
						return !errors.Is(err, assent.ErrInDoubt)
					})
				}
				if !errors.Is(err, assent.ErrRolledBack) {
					t.Error(err)
				}
				r.expectValues(t, 1, 100)
			})
		}
	}
}
