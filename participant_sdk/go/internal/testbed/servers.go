package testbed

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/go-sql-driver/mysql" // The drivers that the tests use.
	_ "github.com/jackc/pgx/v5/stdlib"

	v1 "assent.example/assent/assentv1"
)

// Server is a database server of the test's own.
type Server struct {
	Process
	Engine   v1.Resource_Engine
	Port     int
	Password string
	folder   string
}

// PasswordFile is for the coordinator.
func (s *Server) PasswordFile() string { return filepath.Join(s.folder, "password") }

// Address is host:port.
func (s *Server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// User is the server's administrator.
func (s *Server) User() string {
	if s.Engine == v1.Resource_ENGINE_POSTGRESQL {
		return "postgres"
	}
	return "root"
}

// Database is PostgreSQL's; empty for others.
func (s *Server) Database() string {
	if s.Engine == v1.Resource_ENGINE_POSTGRESQL {
		return "postgres"
	}
	return ""
}

// DSN is the data source name; extra are parameters ("multiStatements=true").
func (s *Server) DSN(extra string) string {
	if s.Engine == v1.Resource_ENGINE_POSTGRESQL {
		return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?%s", s.Password, s.Port, extra)
	}
	return fmt.Sprintf("root:%s@tcp(127.0.0.1:%d)/?%s", s.Password, s.Port, extra)
}

// Driver is the name of the driver in database/sql.
func (s *Server) Driver() string {
	if s.Engine == v1.Resource_ENGINE_POSTGRESQL {
		return "pgx"
	}
	return "mysql"
}

// Open makes a pool.
func (s *Server) Open(extra string) (*sql.DB, error) { return sql.Open(s.Driver(), s.DSN(extra)) }

func (s *Server) answers() error {
	db, err := s.Open("")
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping()
}

// Restart kills it if it runs, and starts it again over the same data.
func (s *Server) Restart() error {
	s.Kill9()
	// PostgreSQL's children outlive it for a moment, and it does not start beside them.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := s.start(); err != nil {
			return err
		}
		if err := s.until(s.answers); err == nil || s.Running() || time.Now().After(deadline) {
			return err
		}
	}
}

// program finds a program of a server's.
func program(name string, places ...string) (string, error) {
	for _, place := range places {
		found, _ := filepath.Glob(filepath.Join(place, name))
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return exec.LookPath(name)
}

var template struct {
	once   sync.Once
	folder string
	err    error
}

// mariadbTemplate makes a data folder once, to be copied.
func mariadbTemplate() (string, error) {
	template.once.Do(func() {
		install, err := program("mariadb-install-db", "/usr/bin")
		if err != nil {
			template.err = err
			return
		}
		if template.folder, template.err = newFolder("db"); template.err != nil {
			return
		}
		me, _ := user.Current()
		template.err = run(0, install, "--no-defaults", "--datadir="+template.folder+"/data", "--tmpdir="+template.folder,
			"--user="+me.Username, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
			"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M")
	})
	return template.folder, template.err
}

// StartMariaDB starts a MariaDB server with root as its one account.
func StartMariaDB(extra ...string) (*Server, error) {
	source, err := mariadbTemplate()
	if err != nil {
		return nil, err
	}
	daemon, err := program("mariadbd", "/usr/sbin")
	if err != nil {
		return nil, err
	}
	folder, err := newFolder("db")
	if err != nil {
		return nil, err
	}
	if err := run(0, "cp", "-r", source+"/data", folder+"/data"); err != nil {
		return nil, err
	}
	s := &Server{Engine: v1.Resource_ENGINE_MARIADB, Port: FreePort(), Password: "p" + strconv.Itoa(os.Getpid()), folder: folder}
	var init strings.Builder
	for _, host := range []string{"localhost", "127.0.0.1"} {
		fmt.Fprintf(&init, "CREATE OR REPLACE USER root@'%s' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO root@'%s' WITH GRANT OPTION;\n", host, s.Password, host)
	}
	if err := os.WriteFile(folder+"/init.sql", []byte(init.String()), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.PasswordFile(), []byte(s.Password+"\n"), 0o600); err != nil {
		return nil, err
	}
	me, _ := user.Current()
	s.argv = append([]string{daemon, "--no-defaults", "--user=" + me.Username, "--datadir=" + folder + "/data", "--tmpdir=" + folder,
		"--socket=" + folder + "/socket", "--pid-file=" + folder + "/pid", "--init-file=" + folder + "/init.sql",
		"--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", s.Port), "--skip-name-resolve", "--performance-schema=OFF",
		"--innodb-log-file-size=32M", "--innodb-buffer-pool-size=48M", "--max-connections=500",
		"--innodb-buffer-pool-dump-at-shutdown=OFF", "--innodb-buffer-pool-load-at-startup=OFF"}, extra...)
	s.log = folder + "/log"
	return s, s.launch()
}

func (s *Server) launch() error {
	if err := s.start(); err != nil {
		return err
	}
	remember(&s.Process)
	return s.until(s.answers)
}

// StartPostgres starts a PostgreSQL server.
func StartPostgres(settings ...string) (*Server, error) {
	places := []string{"/usr/lib/postgresql/*/bin"}
	initdb, err := program("initdb", places...)
	if err != nil {
		return nil, err
	}
	daemon, err := program("postgres", places...)
	if err != nil {
		return nil, err
	}
	folder, err := newFolder("pg")
	if err != nil {
		return nil, err
	}
	s := &Server{Engine: v1.Resource_ENGINE_POSTGRESQL, Port: FreePort(), Password: "p" + strconv.Itoa(os.Getpid()), folder: folder}
	if os.Geteuid() == 0 { // It refuses to run as root.
		s.user = 65534
		if err := os.Chown(folder, 65534, 65534); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(s.PasswordFile(), []byte(s.Password+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := run(s.user, initdb, "--pgdata="+folder+"/data", "--username=postgres", "--auth=scram-sha-256",
		"--pwfile="+s.PasswordFile(), "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions"); err != nil {
		return nil, err
	}
	s.argv = []string{daemon, "-D", folder + "/data", "-k", folder, "-p", strconv.Itoa(s.Port)}
	for _, setting := range append([]string{"listen_addresses=127.0.0.1", "max_prepared_transactions=100", "shared_buffers=32MB"}, settings...) {
		s.argv = append(s.argv, "-c", setting)
	}
	s.log = folder + "/log"
	return s, s.launch()
}
