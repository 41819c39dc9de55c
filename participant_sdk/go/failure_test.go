package assent_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
	"assent.example/assent/internal/testbed"
)

func TestNobodyAnswersAtTheBeginning(t *testing.T) {
	client, err := assent.NewClient(fmt.Sprintf("127.0.0.1:%d", testbed.FreePort()), assent.WithCallPatience(300*time.Millisecond))
	must(t, err)
	defer client.Close()
	for _, options := range [][]assent.BeginOption{nil, {assent.WithSoleParticipant()}} {
		begun := time.Now()
		_, err = client.Begin(ctx, options...)
		known := expectReason(t, err, assent.CoordinatorUnreachable)
		if took := time.Since(begun); took > 10*time.Second || !strings.Contains(known.Message, "refused") {
			t.Error(took, known)
		}
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	patient, err := assent.NewClient(fmt.Sprintf("127.0.0.1:%d", testbed.FreePort()))
	must(t, err)
	defer patient.Close()
	_, err = patient.Begin(short)
	expectReason(t, err, assent.CoordinatorUnreachable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTheCoordinatorIsKilledAtEveryStep(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	back := make(chan error, 1)
	restart := func() {
		r.assentd.Kill9()
		go func() {
			time.Sleep(300 * time.Millisecond)
			back <- r.assentd.Restart()
		}()
	}
	for i, sole := range []bool{false, true} {
		restart() // Away at Begin.
		var options []assent.BeginOption
		if sole {
			options = append(options, assent.WithSoleParticipant())
		}
		tx, err := r.client.Begin(ctx, options...)
		must(t, err)
		must(t, tx.Branch(ctx, "orders", r.dbs[0], add(1, 1)))
		must(t, <-back)
		if !sole {
			restart() // At the second branch.
		}
		must(t, tx.Branch(ctx, "payments", r.dbs[1], add(1, 1)))
		if !sole {
			must(t, <-back)
		}
		restart() // At the vote.
		must(t, tx.Commit(ctx))
		r.expectValues(t, 1, 101+i, 101+i)
		must(t, <-back)
		r.client.Flush(ctx)
		r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED)
	}
}

func TestPatienceEndsWithTheVoteOut(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		k := k
		t.Run(k.name, func(t *testing.T) {
			r := newOwnRig(t, k)
			client := r.newClient(t, assent.WithDecisionPatience(300*time.Millisecond))
			tx, err := client.Begin(ctx)
			must(t, err)
			r.transfer(ctx, t, tx)
			r.assentd.Kill9()
			err = tx.Commit(ctx)
			expectReason(t, err, assent.OutcomeInDoubt)
			if !errors.Is(err, assent.ErrInDoubt) || tx.Outcome() != v1.Outcome_OUTCOME_IN_DOUBT {
				t.Error(tx.Outcome())
			}
			if r.dbs[0].Stats().InUse != 1 {
				t.Error("a prepared connection went back to its pool")
			}
			// The locks are held: nobody may guess.
			must(t, r.assentd.Restart())
			must(t, tx.Commit(ctx))
			r.expectValues(t, 1, 99, 101)
			r.expectIdle(t)
		})
	}
}

func TestAbandonedBranchesAreFinishedByTheCoordinator(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		k := k
		t.Run(k.name, func(t *testing.T) {
			r := newOwnRig(t, k)
			client := r.newClient(t, assent.WithDecisionPatience(100*time.Millisecond))
			tx, err := client.Begin(ctx)
			must(t, err)
			r.transfer(ctx, t, tx)
			r.assentd.Kill9()
			expectReason(t, tx.Commit(ctx), assent.OutcomeInDoubt)
			must(t, tx.Close()) // Closes the connections for real: they must not be used again.
			r.expectIdle(t)
			must(t, r.assentd.Restart())
			_, err = r.assentd.Calls.Finalize(ctx, &v1.FinalizeRequest{Gtrid: tx.Gtrid(), Decision: v1.Decision_DECISION_ROLLBACK})
			must(t, err)
			r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
			r.expectValues(t, 1, 100, 100)
			r.transferAgain(t)
		})
	}
}

// prepared waits until the server lists the transaction as prepared.
func (r *rig) waitPrepared(t *testing.T, server int, gtrid string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if r.servers[server].Driver() == "pgx" {
			var n int
			must(t, r.plain[server].QueryRow("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE '%/"+gtrid+"/%'").Scan(&n))
			if n > 0 {
				return
			}
			continue
		}
		rows, err := r.plain[server].Query("XA RECOVER")
		must(t, err)
		found := false
		for rows.Next() {
			var format, g, b int
			var data string
			must(t, rows.Scan(&format, &g, &b, &data))
			found = found || strings.HasPrefix(data, gtrid)
		}
		must(t, rows.Close())
		if found {
			return
		}
	}
	t.Fatal("it was never prepared")
}

func TestAConnectionIsKilledWhileItHoldsAPreparedBranch(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		k := k
		t.Run(k.name, func(t *testing.T) {
			r := newOwnRig(t, k)
			tx, err := r.client.Begin(ctx)
			must(t, err)
			r.transfer(ctx, t, tx)
			branch, err := tx.OpenBranch(ctx, r.names[1], r.dbs[1])
			must(t, err)
			var id int64
			must(t, branch.Conn().QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id))
			r.assentd.Signal(syscall.SIGSTOP)
			answer := make(chan error, 1)
			go func() { answer <- tx.Commit(ctx) }()
			r.waitPrepared(t, 1, tx.Gtrid())
			r.waitPrepared(t, 0, tx.Gtrid())
			r.sql(t, 1, fmt.Sprintf("KILL %d", id))
			r.assentd.Signal(syscall.SIGCONT)
			expectReason(t, <-answer, assent.OutcomeInDoubt) // Decided, and not proven.
			r.expectIdle(t)
			r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED) // Recovery has proven it.
			r.expectValues(t, 1, 99, 101)
		})
	}
}

func TestADatabaseDiesBeforeThePrepare(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[2]} {
		k := k
		t.Run(k.name, func(t *testing.T) {
			r := newOwnRig(t, k)
			tx, err := r.client.Begin(ctx)
			must(t, err)
			r.transfer(ctx, t, tx)
			r.servers[0].Kill9()
			if err := tx.Commit(ctx); !errors.Is(err, assent.ErrRolledBack) {
				t.Error(err)
			}
			if r.value(t, 1, 1) != 100 {
				t.Error("half of it was committed")
			}
			must(t, r.servers[0].Restart())
			r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
			r.expectValues(t, 1, 100, 100)
		})
	}
}

func TestADatabaseDiesAfterThePrepare(t *testing.T) {
	r := newOwnRig(t, kinds[0])
	tx, err := r.client.Begin(ctx)
	must(t, err)
	r.transfer(ctx, t, tx)
	r.assentd.Signal(syscall.SIGSTOP)
	answer := make(chan error, 1)
	go func() { answer <- tx.Commit(ctx) }()
	r.waitPrepared(t, 0, tx.Gtrid())
	r.waitPrepared(t, 1, tx.Gtrid())
	r.servers[1].Kill9()
	r.assentd.Signal(syscall.SIGCONT)
	expectReason(t, <-answer, assent.OutcomeInDoubt)
	if r.value(t, 0, 1) != 99 {
		t.Error("the branch that could be committed was not")
	}
	must(t, r.servers[1].Restart())
	r.expectState(t, tx.Gtrid(), v1.Global_STATE_COMMITTED)
	r.expectValues(t, 1, 99, 101)
}

// A worker in a process of its own, for TestAWorkerIsKilled: this test is run again with ASSENT_WORKER set.
func TestWorker(t *testing.T) {
	settings := os.Getenv("ASSENT_WORKER")
	if settings == "" {
		t.Skip("only as a process of its own")
	}
	parts := strings.Split(settings, "|")
	client, err := assent.NewClient(parts[0])
	must(t, err)
	db, err := sql.Open("mysql", parts[2])
	must(t, err)
	tx, err := client.Join(parts[1])
	must(t, err)
	must(t, tx.Branch(ctx, "payments", db, add(1, 1)))
	if parts[3] == "vote" {
		must(t, tx.Vote(ctx))
	}
	must(t, os.WriteFile(parts[4], nil, 0o600))
	time.Sleep(time.Minute) // To be killed.
}

func TestAWorkerIsKilled(t *testing.T) {
	r := newRig(t, kinds[0])
	before := [2]int{100, 100}
	for _, when := range []string{"vote", "before"} {
		t.Run(when, func(t *testing.T) {
			tx, err := r.client.Begin(ctx, assent.WithTimeout(20*time.Second))
			must(t, err)
			must(t, tx.Branch(ctx, "orders", r.dbs[0], add(1, 1)))
			ready := t.TempDir() + "/ready"
			worker := exec.Command(os.Args[0], "-test.run=^TestWorker$")
			worker.Env = append(os.Environ(), "ASSENT_WORKER="+strings.Join([]string{r.assentd.Address(), tx.Gtrid(),
				r.servers[1].DSN("multiStatements=true"), when, ready}, "|"))
			must(t, worker.Start())
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if _, err := os.Stat(ready); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the worker is not ready")
				}
			}
			must(t, worker.Process.Kill())
			_ = worker.Wait()
			err = tx.Commit(ctx)
			if when == "vote" {
				must(t, err) // Recovery has finished its branch, and Commit has waited for the proof.
				before[0]++
				before[1]++
			} else {
				expectReason(t, err, assent.BranchesNotPrepared)
				must(t, tx.Close())
				r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
			}
			r.expectValues(t, 1, before[0], before[1])
		})
	}
}

func TestASoleParticipantsOrphan(t *testing.T) {
	r := newRig(t, kinds[0])
	client := r.newClient2(t)
	tx, err := client.Begin(ctx, assent.WithSoleParticipant())
	must(t, err)
	r.transfer(ctx, t, tx)
	must(t, tx.Rollback(ctx, "on record now"))
	expectReason(t, tx.Commit(ctx), assent.GlobalRolledBack)
	r.expectState(t, tx.Gtrid(), v1.Global_STATE_ROLLED_BACK)
	r.expectValues(t, 1, 100, 100)
}

func TestTheNextInstanceIsAsked(t *testing.T) {
	store := newRig(t, kinds[0]).servers[0]
	folder := t.TempDir()
	must(t, os.WriteFile(folder+"/password", []byte(store.Password+"\n"), 0o600))
	var instances [2]*testbed.Assentd
	var addresses []string
	for i := range instances {
		var err error
		instances[i], err = testbed.StartAssentd("--store=mariadb://root@"+store.Address()+"/assent_store_go", "--store-password-file="+folder+"/password",
			"--store-allow-unsafe=true", "--cluster=goha")
		must(t, err)
		defer instances[i].Kill9()
		addresses = append(addresses, instances[i].Address())
	}
	r := &rig{assentd: instances[0]}
	for i := range r.servers {
		var err error
		r.servers[i], err = testbed.StartMariaDB()
		must(t, err)
		defer r.servers[i].Kill9()
	}
	r.connect(t, kinds[0])
	client, err := assent.NewClient(strings.Join(addresses, ", "))
	must(t, err)
	defer client.Close()
	for i := 0; i < 4; i++ {
		tx, err := client.Begin(ctx)
		must(t, err)
		r.transfer(ctx, t, tx)
		for j := range instances {
			if instances[j].Address() == client.CurrentAddress() && i%2 == 0 {
				instances[j].Kill9() // The one that it uses.
			}
		}
		begun := time.Now()
		must(t, tx.Commit(ctx))
		if took := time.Since(begun); took > 10*time.Second {
			t.Error(took)
		}
		for j := range instances {
			if !instances[j].Running() {
				must(t, instances[j].Restart())
			}
		}
	}
	r.expectValues(t, 1, 96, 104)
}
