// Command scenariorunner does the steps of participant_sdk/scenarios.txt with the Go SDK; tests/languages runs it, and
// scenario_runner.cc there says what it reads and answers.
//
//	scenariorunner ASSENTD (RESOURCE ENGINE ADDRESS USER PASSWORD_FILE DATABASE)...
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
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/grpc/codes"

	"assent.example/assent"
)

const fields = 6

var names = map[codes.Code]string{
	codes.InvalidArgument: "INVALID_ARGUMENT", codes.NotFound: "NOT_FOUND", codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Aborted: "ABORTED", codes.Unavailable: "UNAVAILABLE", codes.Unknown: "UNKNOWN", codes.AlreadyExists: "ALREADY_EXISTS",
}

func open(engine, address, user, passwordFile, database string) (*sql.DB, error) {
	secret, err := os.ReadFile(passwordFile)
	if err != nil {
		return nil, err
	}
	password := strings.TrimSpace(string(secret))
	if engine == "postgresql" {
		source := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: address, Path: "/" + database}
		return sql.Open("pgx", source.String())
	}
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr, config.MultiStatements = user, password, "tcp", address, true
	return sql.Open("mysql", config.FormatDSN())
}

type runner struct {
	client *assent.Client
	dbs    map[string]*sql.DB
	some   *sql.DB
	tx     *assent.Global
}

func (r *runner) begin(options []string) ([]assent.BeginOption, error) {
	var chosen []assent.BeginOption
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		number, err := strconv.Atoi(value)
		switch name {
		case "sole":
			chosen, err = append(chosen, assent.WithSoleParticipant()), nil
		case "timeout":
			chosen = append(chosen, assent.WithTimeout(time.Duration(number)*time.Millisecond))
		case "expected":
			chosen = append(chosen, assent.WithPolicy(assent.WhenAllPrepared), assent.WithExpectedBranches(number))
		case "gtrid":
			chosen, err = append(chosen, assent.WithGtrid(value)), nil
		case "resources":
			chosen, err = append(chosen, assent.WithResources(strings.Split(value, ",")...)), nil
		}
		if err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

// take makes tx the one that the next steps are about.
func (r *runner) take(tx *assent.Global, err error) (string, error) {
	if r.tx != nil {
		_ = r.tx.Close()
	}
	r.tx = tx
	if err != nil {
		return "", err
	}
	return tx.Gtrid(), nil
}

func (r *runner) work(ctx context.Context, resource, statement string) error {
	db := r.dbs[resource]
	if db == nil { // A resource that is not registered is on some server all the same.
		db = r.some
	}
	return r.tx.Branch(ctx, resource, db, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	})
}

func (r *runner) do(verb, rest string) (string, error) {
	ctx := context.Background()
	switch verb {
	case "begin":
		options, err := r.begin(strings.Fields(rest))
		if err != nil {
			return "", err
		}
		return r.take(r.client.Begin(ctx, options...))
	case "join":
		return r.take(r.client.Join(rest))
	case "work":
		resource, statement, _ := strings.Cut(rest, " ")
		return "", r.work(ctx, resource, statement)
	case "commit":
		return "", r.tx.Commit(ctx)
	case "prepare":
		return "", r.tx.Prepare(ctx)
	case "vote":
		return "", r.tx.Vote(ctx)
	case "rollback":
		return "", r.tx.Rollback(ctx, "")
	case "outcome":
		return strings.TrimPrefix(r.tx.Outcome().String(), "OUTCOME_"), nil
	case "leave":
		return "", r.tx.Close()
	}
	return "", fmt.Errorf("no such step: %s", verb)
}

func run(arguments []string) error {
	client, err := assent.NewClient(arguments[0], assent.WithCallPatience(2*time.Second), assent.WithDecisionPatience(2*time.Second))
	if err != nil {
		return err
	}
	r := &runner{client: client, dbs: map[string]*sql.DB{}}
	for rest := arguments[1:]; len(rest) >= fields; rest = rest[fields:] {
		if r.some, err = open(rest[1], rest[2], rest[3], rest[4], rest[5]); err != nil {
			return err
		}
		r.dbs[rest[0]] = r.some
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		text, err := r.do(verb, rest)
		answer := "OK " + text
		var known *assent.Error
		if errors.As(err, &known) {
			answer = names[known.Code] + " " + string(known.Reason)
		} else if err != nil {
			answer = "ERROR " + err.Error()
		}
		fmt.Println(strings.TrimSpace(answer))
	}
	return lines.Err()
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scenariorunner:", err)
		os.Exit(1)
	}
}
