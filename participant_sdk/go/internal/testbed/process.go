// Package testbed starts what the tests of the Go SDK need, for real: private MariaDB and PostgreSQL servers and assentd,
// on free loopback ports and in temporary folders. Everything ends with the test's process, however that ends.
package testbed

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that was started here.
type Process struct {
	argv   []string
	log    string
	user   uint32 // 0: whoever runs the test.
	cmd    *exec.Cmd
	exited chan struct{}
}

var starts = make(chan func())

// The kernel ends a child (Pdeathsig) with the thread that started it: one thread starts them all and never ends.
func init() {
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
}

func (p *Process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.argv[0], p.argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if p.user != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.user, Gid: p.user}
		p.cmd.Dir = "/"
	}
	done := make(chan error)
	starts <- func() { done <- p.cmd.Start() }
	if err := <-done; err != nil {
		return err
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(p.cmd)
	return nil
}

// Running tells whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// CPU answers the processor time that it has used so far.
func (p *Process) CPU() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // A name may hold blanks.
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100) // The unit is the same on every Linux: USER_HZ.
}

// Signal sends a signal.
func (p *Process) Signal(signal syscall.Signal) { _ = p.cmd.Process.Signal(signal) }

// Kill9 kills it, and waits for its end.
func (p *Process) Kill9() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	if p.Running() {
		// Its children, too: PostgreSQL's sessions are processes.
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		p.Signal(syscall.SIGKILL)
	}
	<-p.exited
}

// logTail is the end of what it wrote.
func (p *Process) logTail() string {
	text, _ := os.ReadFile(p.log)
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return string(text)
}

// until waits until ready answers nil, or the process ends, or a minute has passed.
func (p *Process) until(ready func() error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := ready()
		if err == nil {
			return nil
		}
		if !p.Running() || time.Now().After(deadline) {
			return fmt.Errorf("%s did not start: %v: %s", p.argv[0], err, p.logTail())
		}
	}
}

// FreePort answers a port that nobody listens on now.
func FreePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func run(user uint32, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		cmd.Dir = "/"
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %v: %s", argv[0], err, out.String())
	}
	return nil
}

var (
	foldersMu sync.Mutex
	folders   []string
	processes []*Process
)

func newFolder(kind string) (string, error) {
	folder, err := os.MkdirTemp("", "assent-go-"+kind+"-")
	foldersMu.Lock()
	defer foldersMu.Unlock()
	folders = append(folders, folder)
	return folder, err
}

func remember(p *Process) {
	foldersMu.Lock()
	defer foldersMu.Unlock()
	processes = append(processes, p)
}

// Clean ends everything that was started and removes its folders. For the end of TestMain.
func Clean() {
	foldersMu.Lock()
	defer foldersMu.Unlock()
	for _, p := range processes {
		p.Kill9()
	}
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
	processes, folders = nil, nil
}

// Output runs a program to its end, and answers what it printed.
func Output(argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	var failures bytes.Buffer
	cmd.Stderr = &failures
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %v: %s", argv[0], err, failures.String())
	}
	return string(output), nil
}
