package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "assent.example/assent/assentv1"
	"assent.example/assent/internal/testbed"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testbed.Clean()
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const accounts, initial = 20, 1000

// rig is a bank on a MariaDB and a PostgreSQL server.
type rig struct {
	assentd *testbed.Assentd
	servers [2]*testbed.Server
	config  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{config: t.TempDir() + "/bank.conf"}
	var err error
	r.assentd, err = testbed.StartAssentd("--default-timeout=5s", "--sweep-interval=1s") // Of what a killed worker leaves undecided.
	must(t, err)
	r.servers[0], err = testbed.StartMariaDB()
	must(t, err)
	r.servers[1], err = testbed.StartPostgres()
	must(t, err)
	config := fmt.Sprintf("%s\n%d\n%d\n", r.assentd.Address(), accounts, initial)
	for i, server := range r.servers {
		name := []string{"first", "second"}[i]
		must(t, r.assentd.Register(name, server))
		config += strings.Join([]string{name, server.Address(), server.User(), server.PasswordFile(), server.Engine.String(), server.Database()}, "\n") + "\n"
		extra := "multiStatements=true"
		if server.Engine == v1.Resource_ENGINE_POSTGRESQL {
			extra = ""
		}
		db, err := server.Open(extra)
		must(t, err)
		setup := "CREATE SCHEMA bank;CREATE TABLE bank.accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0));" +
			"CREATE TABLE bank.ledger (transfer BIGINT NOT NULL, account BIGINT NOT NULL, amount BIGINT NOT NULL, gtrid VARCHAR(64) NOT NULL, PRIMARY KEY (transfer, account))"
		for id := i; id < accounts; id += 2 {
			setup += fmt.Sprintf(";INSERT INTO bank.accounts VALUES (%d, %d)", id, initial)
		}
		_, err = db.Exec(setup)
		must(t, err)
		must(t, db.Close())
	}
	must(t, os.WriteFile(r.config, []byte(config), 0o600))
	return r
}

// legs answers how many halves of each transfer are in the books, and what the accounts hold in all.
func (r *rig) legs(t *testing.T) (map[int64]int, int64) {
	t.Helper()
	legs, total := map[int64]int{}, int64(0)
	for _, server := range r.servers {
		db, err := server.Open("")
		must(t, err)
		var held int64
		must(t, db.QueryRow("SELECT SUM(balance) FROM bank.accounts").Scan(&held))
		total += held
		rows, err := db.Query("SELECT transfer FROM bank.ledger")
		must(t, err)
		for rows.Next() {
			var id int64
			must(t, rows.Scan(&id))
			legs[id]++
		}
		must(t, rows.Close())
		must(t, db.Close())
	}
	return legs, total
}

// check holds the books against what the callers were told, once nothing is open or in doubt any more.
func (r *rig) check(t *testing.T, journals ...string) map[string]int {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		open, err := r.assentd.Calls.ListGlobals(context.Background(), &v1.ListGlobalsRequest{States: []v1.Global_State{
			v1.Global_STATE_ACTIVE, v1.Global_STATE_COMMITTING, v1.Global_STATE_ROLLING_BACK, v1.Global_STATE_HEURISTIC}})
		if err == nil && len(open.Globals) == 0 && r.noneIsPrepared(t) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still open: %v %v", open, err)
		}
	}
	legs, total := r.legs(t)
	if total != accounts*initial {
		t.Errorf("the accounts hold %d, not %d", total, accounts*initial)
	}
	for id, count := range legs {
		if count != 2 {
			t.Errorf("transfer %d has %d halves", id, count)
		}
	}
	told := map[string]int{}
	for _, journal := range journals {
		file, err := os.Open(journal)
		must(t, err)
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			parts := strings.SplitN(lines.Text(), " ", 4)
			id, err := strconv.ParseInt(parts[0], 10, 64)
			if len(parts) != 4 || err != nil {
				t.Errorf("not a line of a journal: %q", lines.Text())
				continue
			}
			told[parts[1]]++
			if (parts[1] == "COMMITTED" && legs[id] != 2) || (parts[1] == "ROLLED_BACK" && legs[id] != 0) {
				t.Errorf("transfer %d has %d halves in the books: %s", id, legs[id], lines.Text())
			}
		}
	}
	return told
}

// noneIsPrepared: orphans of sole participants are on no record of the coordinator's.
func (r *rig) noneIsPrepared(t *testing.T) bool {
	t.Helper()
	for i, query := range []string{"XA RECOVER", "SELECT gid FROM pg_prepared_xacts"} {
		db, err := r.servers[i].Open("")
		must(t, err)
		rows, err := db.Query(query)
		must(t, err)
		found := rows.Next()
		must(t, rows.Close())
		must(t, db.Close())
		if found {
			return false
		}
	}
	return true
}

// A hundred transfers, a tenth of them made to fail.
func TestTheBooksAgree(t *testing.T) {
	r := newRig(t)
	journal := t.TempDir() + "/journal"
	must(t, run([]string{r.config, journal, "1", "100", "7"}))
	told := r.check(t, journal)
	if told["COMMITTED"] < 50 || told["COMMITTED"]+told["ROLLED_BACK"]+told["IN_DOUBT"] != 100 {
		t.Error(told)
	}
}

// Workers and the coordinator are killed again and again; no transfer is ever half made, and nobody was told wrong.
func TestWorkersAndTheCoordinatorAreKilled(t *testing.T) {
	if arguments := os.Getenv("ASSENT_BANK_WORKER"); arguments != "" { // This very test as a worker.
		must(t, run(strings.Split(arguments, "|")))
		return
	}
	r := newRig(t)
	random := rand.New(rand.NewSource(11))
	var journals []string
	next := 1
	start := func() *exec.Cmd {
		journal := fmt.Sprintf("%s/journal-%d", t.TempDir(), next)
		journals = append(journals, journal)
		must(t, os.WriteFile(journal, nil, 0o600))
		worker := exec.Command(os.Args[0], "-test.run=^TestWorkersAndTheCoordinatorAreKilled$")
		worker.Env = append(os.Environ(), "ASSENT_BANK_WORKER="+strings.Join([]string{r.config, journal,
			fmt.Sprint(next * 1000000), fmt.Sprint(next*1000000 + 999999), fmt.Sprint(next)}, "|"))
		next++
		must(t, worker.Start())
		return worker
	}
	workers := []*exec.Cmd{start(), start(), start()}
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(time.Duration(200+random.Intn(400)) * time.Millisecond) {
		if victim := random.Intn(len(workers) + 1); victim == len(workers) {
			r.assentd.Kill9()
			must(t, r.assentd.Restart())
		} else {
			must(t, workers[victim].Process.Kill())
			_ = workers[victim].Wait()
			workers[victim] = start()
		}
	}
	for _, worker := range workers {
		must(t, worker.Process.Signal(syscall.SIGTERM))
	}
	for _, worker := range workers {
		must(t, worker.Wait())
	}
	told := r.check(t, journals...)
	t.Logf("%d workers in all: %v", next-1, told)
	if told["COMMITTED"] < 20 {
		t.Error("too few to prove anything")
	}
}
