package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"assent.example/assent"
)

// server is a server of the bank: the lines of its configuration.
type server struct{ resource, address, user, passwordFile, engine, database string }

func (s server) isPostgres() bool { return s.engine == "ENGINE_POSTGRESQL" }

// bank is the configuration that BankConfig::Save has written.
type bank struct {
	coordinator string
	accounts    int64
	servers     [2]server
}

func loadBank(path string) (*bank, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	next := func() string {
		lines.Scan()
		return lines.Text()
	}
	out := &bank{coordinator: next()}
	out.accounts, err = strconv.ParseInt(next(), 10, 64)
	next() // The initial balance.
	for i := range out.servers {
		out.servers[i] = server{next(), next(), next(), next(), next(), next()}
	}
	if err != nil || out.servers[1].engine == "" {
		return nil, fmt.Errorf("%s is not a bank's configuration", path)
	}
	return out, nil
}

// open makes a pool. Rows may stay locked during a restart of the coordinator: waits are long.
func (s server) open() (*sql.DB, error) {
	password, err := os.ReadFile(s.passwordFile)
	if err != nil {
		return nil, err
	}
	secret := strings.TrimRight(string(password), " \t\r\n")
	socket := strings.TrimPrefix(s.address, "unix:")
	if s.isPostgres() {
		source := url.URL{Scheme: "postgres", User: url.UserPassword(s.user, secret), Host: s.address, Path: "/" + s.database}
		query := url.Values{"lock_timeout": {"30s"}}
		if socket != s.address { // …/.s.PGSQL.5432
			cut := strings.LastIndex(socket, "/.s.PGSQL.")
			source.Host = ""
			query.Set("host", socket[:cut])
			query.Set("port", socket[cut+len("/.s.PGSQL."):])
		}
		source.RawQuery = query.Encode()
		return sql.Open("pgx", source.String())
	}
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr = s.user, secret, "tcp", s.address
	if socket != s.address {
		config.Net, config.Addr = "unix", socket
	}
	config.MultiStatements = true
	config.Params = map[string]string{"innodb_lock_wait_timeout": "30"}
	return sql.Open("mysql", config.FormatDSN())
}

type failure int

// How a transfer is made to fail when the first server has done its part and the second has not.
const (
	failNo failure = iota
	failRollback
	failDuplicateKey
	failOverdraft
	failLeaveScope
	failLoseSession
)

var allFailures = []failure{failRollback, failDuplicateKey, failOverdraft, failLeaveScope, failLoseSession}

type transfer struct {
	id, from, to, amount int64
	fail                 failure
}

// entry is what the caller of a transfer was told.
type entry struct {
	id               int64
	told, gtrid, why string
}

func (e entry) line() string {
	gtrid := e.gtrid
	if gtrid == "" {
		gtrid = "-"
	}
	return fmt.Sprintf("%d %s %s %s\n", e.id, e.told, gtrid, strings.NewReplacer("\n", " ", "\r", " ").Replace(e.why))
}

// teller makes transfers, one at a time.
type teller struct {
	bank   *bank
	client *assent.Client
	dbs    [2]*sql.DB
}

func newTeller(bank *bank, client *assent.Client) (*teller, error) {
	out := &teller{bank: bank, client: client}
	for i, server := range bank.servers {
		var err error
		if out.dbs[i], err = server.open(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (t *teller) close() {
	for _, db := range t.dbs {
		_ = db.Close()
	}
}

func (t *teller) transfer(request transfer) entry {
	ctx := context.Background()
	nothing := entry{id: request.id, told: "ROLLED_BACK"}
	var options []assent.BeginOption
	if request.id%2 == 0 { // Every other transfer takes the short way.
		options = append(options, assent.WithSoleParticipant())
	} else {
		options = append(options, assent.WithResources(t.bank.servers[0].resource, t.bank.servers[1].resource))
	}
	tx, err := t.client.Begin(ctx, options...)
	if err != nil {
		nothing.why = err.Error()
		return nothing
	}
	defer tx.Close()
	// Always in the same order of servers, and one row on each: so transfers cannot deadlock across servers.
	if err = t.part(ctx, request, 0, failNo, tx); err == nil {
		err = t.part(ctx, request, 1, request.fail, tx)
	}
	switch {
	case request.fail == failLeaveScope && err == nil:
		nothing.gtrid, nothing.why = tx.Gtrid(), "left its scope"
		return nothing
	case request.fail == failRollback && err == nil:
		if err = tx.Rollback(ctx, "the application changed its mind"); err == nil {
			return entry{request.id, "ROLLED_BACK", tx.Gtrid(), "Rollback was called"}
		}
	default: // Also after an error: a branch that is poisoned must not be able to commit.
		err = tx.Commit(ctx)
	}
	switch {
	case err == nil:
		return entry{request.id, "COMMITTED", tx.Gtrid(), ""}
	case errors.Is(err, assent.ErrRolledBack): // The one answer that means so; everything else leaves it open.
		return entry{request.id, "ROLLED_BACK", tx.Gtrid(), err.Error()}
	}
	return entry{request.id, "IN_DOUBT", tx.Gtrid(), err.Error()}
}

// part is one server's part of the transfer, or what makes it fail there.
func (t *teller) part(ctx context.Context, request transfer, server int, fail failure, tx *assent.Global) error {
	if fail == failRollback || fail == failLeaveScope {
		return nil
	}
	account, amount := request.to, request.amount
	if int(request.from%2) == server {
		account, amount = request.from, -request.amount
	}
	if fail == failOverdraft {
		amount = -1000000000
	}
	place := t.bank.servers[server]
	return tx.Branch(ctx, place.resource, t.dbs[server], func(ctx context.Context, conn *sql.Conn) error {
		entry := fmt.Sprintf(";INSERT INTO bank.ledger VALUES (%d, %d, %d, '%s')", request.id, account, amount, tx.Gtrid())
		statement := fmt.Sprintf("UPDATE bank.accounts SET balance = balance + (%d) WHERE id = %d%s", amount, account, entry)
		if fail == failDuplicateKey {
			statement += entry
		}
		if _, err := conn.ExecContext(ctx, statement); err != nil || fail != failLoseSession {
			return err
		}
		ask, kill := "SELECT CONNECTION_ID()", "KILL %d"
		if place.isPostgres() {
			ask, kill = "SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%d)"
		}
		var id int64
		if err := conn.QueryRowContext(ctx, ask).Scan(&id); err != nil {
			return err
		}
		_, err := t.dbs[server].ExecContext(ctx, fmt.Sprintf(kill, id))
		return err
	})
}
