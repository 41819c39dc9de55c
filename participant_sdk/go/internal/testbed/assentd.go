package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
)

// Assentd is a coordinator of the test's own.
type Assentd struct {
	Process
	Port    int
	Cluster string
	Calls   v1.CoordinatorServiceClient // For what operators ask.
	Setup   v1.ResourceServiceClient
	folder  string
}

// BinDir is where the built programs are: $ASSENT_BIN_DIR.
func BinDir() string { return os.Getenv("ASSENT_BIN_DIR") }

// StartAssentd starts a coordinator over a fresh embedded store.
func StartAssentd(extra ...string) (*Assentd, error) {
	a, err := NewAssentd(extra...)
	if err != nil {
		return nil, err
	}
	return a, a.Restart()
}

// NewAssentd is StartAssentd without starting it.
func NewAssentd(extra ...string) (*Assentd, error) {
	if BinDir() == "" {
		return nil, fmt.Errorf("set ASSENT_BIN_DIR to the folder of assentd and assentctl")
	}
	folder, err := newFolder("assentd")
	if err != nil {
		return nil, err
	}
	a := &Assentd{Port: FreePort(), Cluster: "gotest", folder: folder}
	a.log = folder + "/log"
	a.argv = append([]string{filepath.Join(BinDir(), "assentd"), "--listen=" + a.Address(), "--store=" + folder + "/assent.db",
		"--cluster=" + a.Cluster, "--port-file=" + folder + "/port", "--drain-grace=1s"}, extra...)
	channel, err := grpc.NewClient("passthrough:///"+a.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	a.Calls, a.Setup = v1.NewCoordinatorServiceClient(channel), v1.NewResourceServiceClient(channel)
	return a, nil
}

// Address is host:port.
func (a *Assentd) Address() string { return fmt.Sprintf("127.0.0.1:%d", a.Port) }

// Restart kills it if it runs, and starts it again over the same store.
func (a *Assentd) Restart() error {
	a.Kill9()
	_ = os.Remove(a.folder + "/port")
	if err := a.start(); err != nil {
		return err
	}
	remember(&a.Process)
	return a.until(func() error {
		_, err := os.Stat(a.folder + "/port")
		return err
	})
}

// Register makes a server known under a name.
func (a *Assentd) Register(name string, server *Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := a.Setup.RegisterResource(ctx, &v1.RegisterResourceRequest{Resource: &v1.Resource{Name: name,
		Engine: server.Engine, Address: server.Address(), User: server.User(), PasswordFile: server.PasswordFile(),
		Database: server.Database(), OrphanAge: durationpb.New(2 * time.Second),
		Lease: durationpb.New(5 * time.Second)}}, grpc.WaitForReady(true))
	return err
}

// Outcome asks how a transaction stands.
func (a *Assentd) Outcome(gtrid string) (v1.Global_State, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := a.Calls.GetGlobal(ctx, &v1.GetGlobalRequest{Gtrid: gtrid}, grpc.WaitForReady(true))
	return answer.GetGlobal().GetState(), err
}
