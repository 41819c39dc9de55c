package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
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

// A hundred transfers on a MariaDB and a PostgreSQL server, a tenth of them made to fail; then the books must agree with
// what the callers were told.
func TestTheBooksAgree(t *testing.T) {
	assentd, err := testbed.StartAssentd()
	must(t, err)
	mariadb, err := testbed.StartMariaDB()
	must(t, err)
	postgres, err := testbed.StartPostgres()
	must(t, err)
	folder := t.TempDir()
	config := fmt.Sprintf("%s\n%d\n%d\n", assentd.Address(), accounts, initial)
	var total int64
	sum := func(query string) (sum int64) {
		for _, server := range []*testbed.Server{mariadb, postgres} {
			db, err := server.Open("")
			must(t, err)
			defer db.Close()
			var one int64
			must(t, db.QueryRow(query).Scan(&one))
			sum += one
		}
		return sum
	}
	for i, server := range []*testbed.Server{mariadb, postgres} {
		name := []string{"first", "second"}[i]
		must(t, assentd.Register(name, server))
		config += strings.Join([]string{name, server.Address(), server.User(), server.PasswordFile(), server.Engine.String(), server.Database()}, "\n") + "\n"
		db, err := server.Open("multiStatements=true")
		if server.Engine == v1.Resource_ENGINE_POSTGRESQL {
			db, err = server.Open("")
		}
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
	must(t, os.WriteFile(folder+"/bank.conf", []byte(config), 0o600))
	total = sum("SELECT SUM(balance) FROM bank.accounts")
	must(t, run([]string{folder + "/bank.conf", folder + "/journal", "1", "100", "7"}))

	file, err := os.Open(folder + "/journal")
	must(t, err)
	defer file.Close()
	told := map[string]int64{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		parts := strings.SplitN(lines.Text(), " ", 4)
		if len(parts) != 4 {
			t.Errorf("not a line of a journal: %q", lines.Text())
			continue
		}
		told[parts[1]]++
	}
	if told["COMMITTED"] < 50 || told["COMMITTED"]+told["ROLLED_BACK"]+told["IN_DOUBT"] != 100 {
		t.Error(told)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // Recovery ends what is in doubt.
		legs, now := sum("SELECT COUNT(*) FROM bank.ledger"), sum("SELECT SUM(balance) FROM bank.accounts")
		if legs >= 2*told["COMMITTED"] && legs <= 2*(told["COMMITTED"]+told["IN_DOUBT"]) && legs%2 == 0 && now == total {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d legs, %d of %d in the accounts, told %v", legs, now, total, told)
		}
	}
}
