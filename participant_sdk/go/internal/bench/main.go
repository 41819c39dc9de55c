// Command bench measures, in one run on private servers: the raw XA loop, this SDK, and (with the program that the script
// participant_sdk/go/bench builds in a module of its own) DTM's XA mode. Same machine, same SQL, two MariaDB servers.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"assent.example/assent"
	"assent.example/assent/internal/testbed"
)

// Each worker has rows of its own, by turns. DTM has others than the rest, because some of its rows stay locked.
const statement = "UPDATE bench.t SET v = v + 1 WHERE id = %d"

const (
	rowsOfWorker = 1000
	firstForDTM  = 16 * rowsOfWorker
	rows         = 2 * firstForDTM
)

// contender makes one transaction over both servers.
type contender interface {
	transfer(ctx context.Context, worker int) error
}

// raw is the floor: the same SQL and XA calls over the same connections, both phases in parallel; no coordinator, no
// record of a decision, no witness.
type raw struct {
	conns [][2]*sql.Conn
	count []int
}

func newRaw(ctx context.Context, dbs [2]*sql.DB, workers int) (*raw, error) {
	r := &raw{count: make([]int, workers)}
	for i := 0; i < workers; i++ {
		var pair [2]*sql.Conn
		for j := range pair {
			var err error
			if pair[j], err = dbs[j].Conn(ctx); err != nil {
				return nil, err
			}
		}
		r.conns = append(r.conns, pair)
	}
	return r, nil
}

func (r *raw) close() {
	for _, pair := range r.conns {
		_ = pair[0].Close()
		_ = pair[1].Close()
	}
}

func (r *raw) transfer(ctx context.Context, worker int) error {
	r.count[worker]++
	xid := func(j int) string { return fmt.Sprintf("'raw-%d-%d','b%d',7", worker, r.count[worker], j) }
	for j, conn := range r.conns[worker] {
		if _, err := conn.ExecContext(ctx, "XA START "+xid(j)+";"+fmt.Sprintf(statement, rowOf(worker, r.count[worker]))); err != nil {
			return err
		}
	}
	both := func(text func(j int) string) error {
		other := make(chan error, 1)
		go func() {
			_, err := r.conns[worker][1].ExecContext(ctx, text(1))
			other <- err
		}()
		_, err := r.conns[worker][0].ExecContext(ctx, text(0))
		if failed := <-other; err == nil {
			err = failed
		}
		return err
	}
	if err := both(func(j int) string { return "XA END " + xid(j) + ";XA PREPARE " + xid(j) }); err != nil {
		return err
	}
	return both(func(j int) string { return "XA COMMIT " + xid(j) })
}

type sdk struct {
	client *assent.Client
	dbs    [2]*sql.DB
	count  []int
}

func rowOf(worker, turn int) int { return worker*rowsOfWorker + turn%rowsOfWorker }

func (s *sdk) transfer(ctx context.Context, worker int) error {
	s.count[worker]++
	return s.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
		for j, resource := range []string{"orders", "payments"} {
			if err := tx.Branch(ctx, resource, s.dbs[j], func(ctx context.Context, conn *sql.Conn) error {
				_, err := conn.ExecContext(ctx, fmt.Sprintf(statement, rowOf(worker, s.count[worker])))
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}, assent.WithSoleParticipant())
}

type result struct {
	perSecond float64
	p50, p99  time.Duration
	failed    int
	cpu       [len(cpuOf)]time.Duration // Per transaction.
}

// Whose processor time is counted: what the ratio is made of once the cores are full.
var cpuOf = [...]string{"client", "assentd", "databases"}

// meter reads the processor time used so far.
type meter struct {
	assentd   *testbed.Assentd
	databases []*testbed.Server
}

func (m *meter) read() (used [len(cpuOf)]time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} { // Children that have ended: DTM's.
		var usage syscall.Rusage
		if syscall.Getrusage(who, &usage) == nil {
			used[0] += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	used[1] = m.assentd.CPU()
	for _, server := range m.databases {
		used[2] += server.CPU()
	}
	return used
}

// measure runs workers for a while.
func measure(c contender, workers int, length time.Duration) (result, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	ctx, end := context.Background(), time.Now().Add(length)
	begun := time.Now()
	var all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			var mine []time.Duration
			for time.Now().Before(end) {
				start := time.Now()
				if err := c.transfer(ctx, worker); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		}(worker)
	}
	all.Wait()
	if failed != nil || len(took) == 0 {
		return result{}, fmt.Errorf("a transaction failed: %v", failed)
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	return result{perSecond: float64(len(took)) / time.Since(begun).Seconds(), p50: took[len(took)/2], p99: took[len(took)*99/100]}, nil
}

func median(results []result) result {
	sort.Slice(results, func(i, j int) bool { return results[i].perSecond < results[j].perSecond })
	return results[len(results)/2]
}

func main() {
	seconds := flag.Float64("seconds", 3, "length of one measurement")
	rounds := flag.Int("rounds", 3, "alternating rounds; the median counts")
	dtm := flag.String("dtm", "", "the program that measures DTM; empty: without it")
	flag.Parse()
	err := run(time.Duration(*seconds*float64(time.Second)), *rounds, *dtm)
	testbed.Clean()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(length time.Duration, rounds int, dtm string) error {
	assentd, err := testbed.StartAssentd()
	if err != nil {
		return err
	}
	used := &meter{assentd: assentd}
	var dbs [2]*sql.DB
	var dsns [2]string
	for j, name := range []string{"orders", "payments"} {
		server, err := testbed.StartMariaDB("--innodb-lock-wait-timeout=2")
		if err != nil {
			return err
		}
		if err := assentd.Register(name, server); err != nil {
			return err
		}
		used.databases = append(used.databases, server)
		dsns[j] = server.DSN("multiStatements=true&interpolateParams=true")
		if dbs[j], err = server.Open("multiStatements=true&interpolateParams=true"); err != nil {
			return err
		}
		dbs[j].SetMaxIdleConns(64)
		setup := fmt.Sprintf("CREATE DATABASE bench; USE bench; CREATE TABLE bench.t (id INT PRIMARY KEY, v INT);"+
			"INSERT INTO bench.t SELECT seq, 0 FROM seq_0_to_%d", rows-1)
		if _, err := dbs[j].Exec(setup); err != nil {
			return err
		}
	}
	client, err := assent.NewClient(assentd.Address(), assent.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		return err
	}
	defer client.Close()
	for _, workers := range []int{1, 16} {
		if err := compare(dbs, dsns, client, used, workers, length, rounds, dtm); err != nil {
			return err
		}
	}
	fmt.Print(`
What each of them does not do:
  raw     no coordinator: nothing records a decision, nobody finishes what a crash leaves prepared, a failed statement is
          prepared like any other.
  assent  nothing of that: decision forced to disk, witness rows, session guard, recovery with evidence.
  DTM     takes XA COMMIT's "unknown xid" (1397) and an OK from another session for success, writes no evidence, does not
          hold the session: with 'prepare and close' MariaDB can lose the commit. Its default store, as it comes.
`)
	return nil
}

func compare(dbs [2]*sql.DB, dsns [2]string, client *assent.Client, used *meter, workers int, length time.Duration, rounds int, dtm string) error {
	names := []string{"raw", "assent"}
	if dtm != "" {
		names = append(names, "DTM")
	}
	results := map[string][]result{}
	for round := 0; round <= rounds; round++ { // The first one warms up.
		for _, name := range names {
			var got result
			var err error
			before := used.read()
			switch name {
			case "raw":
				var floor *raw
				if floor, err = newRaw(context.Background(), dbs, workers); err == nil {
					got, err = measure(floor, workers, length)
					floor.close()
				}
			case "assent":
				got, err = measure(&sdk{client, dbs, make([]int, workers)}, workers, length)
			default:
				got, err = measureDTM(dtm, dsns, workers, length)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for i, now := range used.read() {
				got.cpu[i] = time.Duration(float64(now-before[i]) / (got.perSecond * length.Seconds()))
			}
			if round > 0 {
				results[name] = append(results[name], got)
			}
		}
	}
	fmt.Printf("%2d workers   transactions/s       p50       p99   time per transaction, raw = 1   CPU per transaction: %s\n",
		workers, strings.Join(cpuOf[:], ", "))
	floor := median(results["raw"])
	for _, name := range names {
		got := median(results[name])
		fmt.Printf("  %-8s %16.0f %9s %9s   %.2f %26s", name, got.perSecond, got.p50.Round(10*time.Microsecond),
			got.p99.Round(10*time.Microsecond), floor.perSecond/got.perSecond, "")
		for _, each := range got.cpu {
			fmt.Printf(" %6s", each.Round(time.Microsecond))
		}
		fmt.Println()
	}
	if dtm != "" {
		fmt.Printf("  assent makes %.1f times as many transactions as DTM\n", median(results["assent"]).perSecond/median(results["DTM"]).perSecond)
		failed := 0
		for _, round := range results["DTM"] {
			failed += round.failed
		}
		fmt.Printf("  DTM's transactions that failed: %d\n", failed)
		for j, db := range dbs {
			var free int
			if err := db.QueryRow("SELECT COUNT(*) FROM (SELECT id FROM bench.t FOR UPDATE SKIP LOCKED) AS free").Scan(&free); err != nil {
				return err
			}
			fmt.Printf("  rows that are still locked on server %d, with nobody at work: %d\n", j, rows-free)
		}
	}
	return nil
}

// measureDTM runs the program, which answers `transactions/s p50-in-µs p99-in-µs`.
func measureDTM(program string, dsns [2]string, workers int, length time.Duration) (result, error) {
	output, err := testbed.Output(program, dsns[0], dsns[1], fmt.Sprint(workers), length.String(), fmt.Sprint(firstForDTM))
	if err != nil {
		return result{}, err
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	var perSecond, p50, p99 float64
	var failed int
	if _, err := fmt.Sscan(lines[len(lines)-1], &perSecond, &p50, &p99, &failed); err != nil {
		return result{}, fmt.Errorf("%v: %s", err, output)
	}
	return result{perSecond: perSecond, p50: time.Duration(p50) * time.Microsecond, p99: time.Duration(p99) * time.Microsecond,
		failed: failed}, nil
}
