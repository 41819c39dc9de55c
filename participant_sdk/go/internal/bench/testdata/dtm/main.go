// Measures DTM's XA mode: its server (in a process of its own, with its default store), and two branches over HTTP, as
// its documentation has them. participant_sdk/go/bench builds it in a temporary module; it is no part of the SDK.
//
//	dtm server                            the coordinator, settings from the environment
//	dtm ORDERS_DSN PAYMENTS_DSN N LENGTH FIRST
//
// N workers, each on rowsOfWorker rows by turns, from FIRST on; prints transactions/s, p50 and p99 in µs of those that ended
// well, and how many did not.
package main

import (
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/entry"
	"github.com/dtm-labs/logger"
	"github.com/go-resty/resty/v2"
	"github.com/go-sql-driver/mysql"
)

const rowsOfWorker = 1000

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) == 2 {
		version := "bench"
		os.Args = os.Args[:1]
		entry.Main(&version)
		select {}
	}
	logger.InitLog("error")
	var configs [2]dtmcli.DBConf
	for i := range configs {
		dsn, err := mysql.ParseDSN(os.Args[1+i])
		check(err)
		host, port, err := net.SplitHostPort(dsn.Addr)
		check(err)
		number, _ := strconv.ParseInt(port, 10, 64)
		configs[i] = dtmcli.DBConf{Driver: "mysql", Host: host, Port: number, User: dsn.User, Password: dsn.Passwd}
		db, err := sql.Open("mysql", os.Args[1+i])
		check(err)
		_, err = db.Exec("CREATE DATABASE IF NOT EXISTS dtm_barrier; CREATE TABLE IF NOT EXISTS dtm_barrier.barrier (" +
			"id BIGINT(22) PRIMARY KEY AUTO_INCREMENT, trans_type VARCHAR(45) DEFAULT '', gid VARCHAR(128) DEFAULT ''," +
			"branch_id VARCHAR(128) DEFAULT '', op VARCHAR(45) DEFAULT '', barrier_id VARCHAR(45) DEFAULT ''," +
			"reason VARCHAR(45) DEFAULT '', create_time DATETIME DEFAULT NOW(), update_time DATETIME DEFAULT NOW()," +
			"UNIQUE KEY (gid, branch_id, op, barrier_id))")
		check(err)
	}
	workers, err := strconv.Atoi(os.Args[3])
	check(err)
	length, err := time.ParseDuration(os.Args[4])
	check(err)

	first, err := strconv.Atoi(os.Args[5])
	check(err)
	coordinator, stop := startServer()
	defer stop()
	services := startServices(configs)
	var mu sync.Mutex
	var took []time.Duration
	failed := 0
	var all sync.WaitGroup
	begun := time.Now()
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			var mine []time.Duration
			turn, failures := 0, 0
			for time.Since(begun) < length {
				start := time.Now()
				turn++
				if err := transfer(coordinator, services, first+worker*rowsOfWorker+turn%rowsOfWorker); err != nil {
					failures++ // A row that stays locked, for one.
					continue
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			failed += failures
			took = append(took, mine...)
			mu.Unlock()
		}(worker)
	}
	all.Wait()
	seconds := time.Since(begun).Seconds()
	time.Sleep(2 * time.Second) // What it does behind its callers.
	if len(took) == 0 {
		check(fmt.Errorf("no transaction ended well"))
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	fmt.Println(float64(len(took))/seconds, took[len(took)/2].Microseconds(), took[len(took)*99/100].Microseconds(), failed)
}

func transfer(coordinator, services string, worker int) error {
	gid := dtmcli.MustGenGid(coordinator)
	return dtmcli.XaGlobalTransaction(coordinator, gid, func(xa *dtmcli.Xa) (*resty.Response, error) {
		for server := 0; server < 2; server++ {
			answer, err := xa.CallBranch(map[string]int{}, fmt.Sprintf("%s/%d?worker=%d", services, server, worker))
			if err != nil {
				return answer, err
			}
		}
		return nil, nil
	})
}

func startServices(configs [2]dtmcli.DBConf) string {
	mux := http.NewServeMux()
	for i := range configs {
		config := configs[i]
		mux.HandleFunc(fmt.Sprintf("/%d", i), func(w http.ResponseWriter, request *http.Request) {
			worker, _ := strconv.Atoi(request.URL.Query().Get("worker"))
			err := dtmcli.XaLocalTransaction(request.URL.Query(), config, func(db *sql.DB, _ *dtmcli.Xa) error {
				_, err := db.Exec(fmt.Sprintf("UPDATE bench.t SET v = v + 1 WHERE id = %d", worker))
				return err
			})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write([]byte(`{"dtm_result": "SUCCESS"}`))
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { check(http.Serve(listener, mux)) }()
	return "http://" + listener.Addr().String()
}

func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func startServer() (string, func()) {
	folder, err := os.MkdirTemp("", "assent-dtm-")
	check(err)
	port := freePort()
	program, err := os.Executable()
	check(err)
	server := exec.Command(program, "server")
	server.Dir = folder // Its store is a file there.
	server.Env = append(os.Environ(), fmt.Sprintf("HTTP_PORT=%d", port), fmt.Sprintf("GRPC_PORT=%d", freePort()),
		fmt.Sprintf("JSON_RPC_PORT=%d", freePort()), "LOG_LEVEL=error", "GIN_MODE=release")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(server.Start())
	address := fmt.Sprintf("http://127.0.0.1:%d/api/dtmsvr", port)
	for i := 0; ; i++ {
		if answer, err := http.Get(address + "/newGid"); err == nil {
			answer.Body.Close()
			break
		}
		if i > 1000 {
			check(fmt.Errorf("DTM does not answer"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return address, func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(folder)
	}
}
