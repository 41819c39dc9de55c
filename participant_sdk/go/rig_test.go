package assent_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
	"assent.example/assent/internal/testbed"
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	testbed.Clean()
	os.Exit(code)
}

// rig is a coordinator and two servers with a table t (id, v) each, called orders and payments.
type rig struct {
	assentd *testbed.Assentd
	servers [2]*testbed.Server
	dbs     [2]*sql.DB // As an application has them.
	plain   [2]*sql.DB // To look with.
	client  *assent.Client
	names   [2]string // Of the resources.
}

type kind struct {
	name    string
	engines [2]string // m: MariaDB, p: PostgreSQL.
	dsn     string    // Parameters of the application's pools on MariaDB.
}

// kinds are the mixtures that what does not depend on the engine is tried on.
var kinds = []kind{
	{"mariadb", [2]string{"m", "m"}, "multiStatements=true&interpolateParams=true"},
	{"mariadb-plain", [2]string{"m", "m"}, ""},
	{"mixed", [2]string{"p", "m"}, "multiStatements=true"},
}

var shared struct {
	sync.Mutex
	assentd  *testbed.Assentd
	mariadb  []*testbed.Server
	postgres *testbed.Server
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRig uses servers that the tests of this process share; its tables, names and coordinator's data are its own.
func newRig(t *testing.T, k kind) *rig {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	var err error
	if shared.assentd == nil {
		shared.assentd, err = testbed.StartAssentd()
		must(t, err)
	}
	r := &rig{assentd: shared.assentd}
	for i, engine := range k.engines {
		if engine == "p" {
			if shared.postgres == nil {
				shared.postgres, err = testbed.StartPostgres()
				must(t, err)
			}
			r.servers[i] = shared.postgres
			continue
		}
		for len(shared.mariadb) <= i {
			server, err := testbed.StartMariaDB()
			must(t, err)
			shared.mariadb = append(shared.mariadb, server)
		}
		r.servers[i] = shared.mariadb[i]
	}
	r.connect(t, k)
	return r
}

// newOwnRig starts servers of its own, to be killed.
func newOwnRig(t *testing.T, k kind) *rig {
	t.Helper()
	r := &rig{}
	var err error
	r.assentd, err = testbed.StartAssentd()
	must(t, err)
	for i, engine := range k.engines {
		if engine == "p" {
			r.servers[i], err = testbed.StartPostgres()
		} else {
			r.servers[i], err = testbed.StartMariaDB()
		}
		must(t, err)
	}
	t.Cleanup(func() {
		r.assentd.Kill9()
		for _, server := range r.servers {
			server.Kill9()
		}
	})
	r.connect(t, k)
	return r
}

// At which coordinator, under which name.
var registered = map[string]bool{}

func (r *rig) connect(t *testing.T, k kind) {
	t.Helper()
	var err error
	for i, server := range r.servers {
		extra := ""
		if server.Driver() == "mysql" {
			extra = k.dsn
		}
		r.dbs[i], err = server.Open(extra)
		must(t, err)
		r.plain[i], err = server.Open("")
		must(t, err)
		r.names[i] = map[string]string{"mysql": "orders", "pgx": "stock"}[server.Driver()]
		if i == 1 {
			r.names[i] = "payments"
		}
		if !registered[r.assentd.Address()+r.names[i]] {
			must(t, r.assentd.Register(r.names[i], server))
			registered[r.assentd.Address()+r.names[i]] = true
		}
		r.sql(t, i, "DROP TABLE IF EXISTS shop.t")
		if server.Driver() == "mysql" {
			r.sql(t, i, "CREATE DATABASE IF NOT EXISTS shop")
		} else {
			r.sql(t, i, "CREATE SCHEMA IF NOT EXISTS shop")
		}
		r.sql(t, i, "CREATE TABLE shop.t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)")
		r.sql(t, i, "INSERT INTO shop.t VALUES (1, 100), (2, 100), (3, 100)")
	}
	r.client = r.newClient(t)
}

func (r *rig) newClient(t *testing.T, options ...assent.ClientOption) *assent.Client {
	t.Helper()
	client, err := assent.NewClient(r.assentd.Address(), append([]assent.ClientOption{assent.WithLogger(testLog{t})}, options...)...)
	must(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		for i := range r.dbs {
			_ = r.dbs[i].Close()
			_ = r.plain[i].Close()
		}
	})
	return client
}

type testLog struct{ t *testing.T }

func (l testLog) Printf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, l.t.Name()+": "+format+"\n", args...)
}

func (r *rig) sql(t *testing.T, server int, statement string) {
	t.Helper()
	if _, err := r.plain[server].Exec(statement); err != nil {
		if statement[:4] == "DROP" {
			return // There is no schema yet.
		}
		t.Fatalf("%s: %v", statement, err)
	}
}

func (r *rig) value(t *testing.T, server, id int) int {
	t.Helper()
	var v int
	query := fmt.Sprintf("SELECT v FROM shop.t WHERE id = %d", id)
	if r.plain[server].QueryRow(query).Scan(&v) != nil { // Connections from before the server's restart.
		must(t, r.plain[server].QueryRow(query).Scan(&v))
	}
	return v
}

func (r *rig) expectValues(t *testing.T, id int, want ...int) {
	t.Helper()
	for server, v := range want {
		if got := r.value(t, server, id); got != v {
			t.Errorf("row %d of server %d is %d, not %d", id, server, got, v)
		}
	}
}

// inUse waits for pools to have everything back.
func (r *rig) expectIdle(t *testing.T) {
	t.Helper()
	for i, db := range r.dbs {
		deadline := time.Now().Add(5 * time.Second)
		for db.Stats().InUse > 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if db.Stats().InUse > 0 {
			t.Errorf("the pool of server %d has %d connections in use", i, db.Stats().InUse)
		}
	}
}

func (r *rig) expectState(t *testing.T, gtrid string, want v1.Global_State) {
	t.Helper()
	var state v1.Global_State
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if state, err = r.assentd.Outcome(gtrid); err == nil && state == want {
			return
		}
	}
	t.Errorf("%s is %v (%v), not %v", gtrid, state, err, want)
}

func add(v, id int) func(context.Context, *sql.Conn) error {
	return func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("UPDATE shop.t SET v = v + (%d) WHERE id = %d", v, id))
		return err
	}
}

// transfer moves 1 from one server to the other.
func (r *rig) transfer(ctx context.Context, t testing.TB, tx *assent.Global) {
	t.Helper()
	must(t, tx.Branch(ctx, r.names[0], r.dbs[0], add(-1, 1)))
	must(t, tx.Branch(ctx, r.names[1], r.dbs[1], add(1, 1)))
}

func forKinds(t *testing.T, test func(t *testing.T, r *rig)) {
	for _, k := range kinds {
		k := k
		t.Run(k.name, func(t *testing.T) { test(t, newRig(t, k)) })
	}
}
