//go:build clients

// Package clients tests what docs/clients.md says; tests/clients/test runs it. Needs node, TEST_GRPCURL and
// ASSENT_NODE_MODULES (the node_modules of tests/clients/node).
package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
	"assent.example/assent/internal/testbed"
)

const root = "../../../.."

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

var questionPattern = regexp.MustCompile("(?s)\\*\\*(\\d+)\\. .*?\\*\\*.*?```console\n(.*?)```")

// The scene that the page speaks of; no database is needed for it.
func scene(t *testing.T) *testbed.Assentd {
	assentd, err := testbed.StartAssentd("--cluster=assent")
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, name := range []string{"orders", "payments"} {
		_, err := assentd.Setup.RegisterResource(ctx, &v1.RegisterResourceRequest{AllowUnreachable: true, Resource: &v1.Resource{
			Name: name, Engine: v1.Resource_ENGINE_MARIADB, Address: "127.0.0.1:1", User: "assent"}})
		must(t, err)
	}
	for _, name := range []string{"paid", "failed", "open", "stuck"} {
		gtrid := "assent-" + name + "-1"
		_, err := assentd.Calls.CreateGlobal(ctx, &v1.CreateGlobalRequest{Gtrid: gtrid, Timeout: durationpb.New(time.Hour),
			Branches: []*v1.BranchSpec{{Bqual: "o", Resource: "orders"}, {Bqual: "p", Resource: "payments"}}})
		must(t, err)
		result := v1.Completion_RESULT_COMMITTED
		completions := []*v1.Completion{{Gtrid: gtrid, Bqual: "o", Result: result}}
		switch name {
		case "open":
			continue
		case "failed":
			completions[0].Result = v1.Completion_RESULT_ROLLED_BACK
			_, err = assentd.Calls.Prepared(ctx, &v1.PreparedRequest{Gtrid: gtrid, Wait: v1.Wait_WAIT_NONE, Votes: []*v1.Vote{{Bqual: "p",
				Kind: v1.VoteKind_VOTE_KIND_FAILED, RolledBack: true, Failure: &v1.BranchFailure{ErrorCode: 1213, Sqlstate: "40001",
					Message: "Deadlock found when trying to get lock"}}}})
		default:
			_, err = assentd.Calls.Finalize(ctx, &v1.FinalizeRequest{Gtrid: gtrid, Decision: v1.Decision_DECISION_COMMIT, Wait: v1.Wait_WAIT_DECIDED,
				Votes: []*v1.Vote{{Bqual: "o", Kind: v1.VoteKind_VOTE_KIND_PREPARED}, {Bqual: "p", Kind: v1.VoteKind_VOTE_KIND_PREPARED}}})
			if name == "paid" {
				completions = append(completions, &v1.Completion{Gtrid: gtrid, Bqual: "p", Result: result})
			}
		}
		must(t, err)
		_, err = assentd.Calls.Completed(ctx, &v1.CompletedRequest{Completions: completions})
		must(t, err)
	}
	for { // A branch is in doubt once its participant has had its time.
		answer, err := assentd.Calls.ListInDoubt(ctx, &v1.ListInDoubtRequest{})
		must(t, err)
		if len(answer.Branches) == 1 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return assentd
}

func TestTheOnCallPersonsQuestions(t *testing.T) {
	grpcurl := os.Getenv("TEST_GRPCURL")
	if grpcurl == "" {
		t.Fatal("TEST_GRPCURL is not set")
	}
	page, err := os.ReadFile(root + "/docs/clients.md")
	must(t, err)
	questions := questionPattern.FindAllStringSubmatch(string(page), -1)
	if len(questions) < 20 {
		t.Fatalf("%d questions", len(questions))
	}
	assentd := scene(t)
	for i, question := range questions {
		if question[1] != fmt.Sprint(i+1) {
			t.Errorf("question %s is the %d-th", question[1], i+1)
		}
		t.Run(question[1], func(t *testing.T) {
			lines := strings.Split(strings.TrimSpace(question[2]), "\n")
			command := strings.TrimPrefix(lines[0], "$ grpcurl ")
			if command == lines[0] || len(lines) < 2 {
				t.Fatalf("not a command with something shown: %s", question[2])
			}
			command = grpcurl + " " + strings.ReplaceAll(command, "127.0.0.1:7411", assentd.Address())
			output, _ := exec.Command("sh", "-c", command+" 2>&1").Output()
			for _, shown := range lines[1:] {
				if !strings.Contains(string(output), shown) {
					t.Errorf("the page shows %s after %s, but it is:\n%s", shown, command, output)
				}
			}
		})
	}
}

func TestAClientInNodeJS(t *testing.T) {
	modules := os.Getenv("ASSENT_NODE_MODULES")
	if modules == "" {
		t.Fatal("ASSENT_NODE_MODULES is not set")
	}
	assentd, err := testbed.StartAssentd()
	must(t, err)
	var urls [2]string
	var values [2]func() int
	for i, name := range []string{"orders", "payments"} {
		server, err := testbed.StartMariaDB()
		must(t, err)
		must(t, assentd.Register(name, server))
		urls[i] = fmt.Sprintf("mysql://root:%s@%s/", server.Password, server.Address())
		db, err := server.Open("multiStatements=true")
		must(t, err)
		defer db.Close()
		_, err = db.Exec("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v INT); INSERT INTO shop.t VALUES (1, 100)")
		must(t, err)
		values[i] = func() (v int) {
			must(t, db.QueryRow("SELECT v FROM shop.t").Scan(&v))
			return v
		}
	}
	// A copy, so that it finds its packages; of the protos nothing but what is published.
	folder := t.TempDir()
	program, err := os.ReadFile(root + "/tests/clients/node/transfer.js")
	must(t, err)
	must(t, os.WriteFile(folder+"/transfer.js", program, 0o600))
	must(t, os.Symlink(modules, folder+"/node_modules"))
	here, err := os.Getwd()
	must(t, err)
	protos := here + "/" + root + "/protos," + here + "/" + root + "/third_party/google_rpc"
	for _, want := range []struct {
		wish, outcome string
		orders        int
	}{{"commit", "OUTCOME_COMMITTED", 99}, {"rollback", "OUTCOME_ROLLED_BACK", 99}, {"fail", "OUTCOME_ROLLED_BACK", 99}, {"commit", "OUTCOME_COMMITTED", 98}} {
		output, err := exec.Command("node", folder+"/transfer.js", assentd.Address(), protos, urls[0], urls[1], want.wish).CombinedOutput()
		if err != nil || !strings.HasSuffix(string(output), want.outcome+"\n") {
			t.Errorf("%s: %v: %s", want.wish, err, output)
		}
		if orders, payments := values[0](), values[1](); orders != want.orders || payments != 200-want.orders {
			t.Errorf("%s: %d and %d", want.wish, orders, payments)
		}
	}
	// An assentd that restarts meanwhile is waited for.
	assentd.Kill9()
	go func() {
		time.Sleep(500 * time.Millisecond)
		must(t, assentd.Restart())
	}()
	output, err := exec.Command("node", folder+"/transfer.js", assentd.Address(), protos, urls[0], urls[1], "commit").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(output), "OUTCOME_COMMITTED\n") {
		t.Errorf("%v: %s", err, output)
	}
}
