package assent_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"assent.example/assent"
)

// relay passes connections on. Those that are there when swallow is called stay open, and nothing gets through them any more.
type relay struct {
	listener net.Listener
	target   string
	epoch    atomic.Int32
}

func newRelay(t *testing.T, target string) *relay {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{listener: listener, target: target}
	t.Cleanup(func() { _ = listener.Close() })
	go r.accept()
	return r
}

func (r *relay) swallow() { r.epoch.Add(1) }

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		epoch := r.epoch.Load()
		go r.passOn(client, server, epoch)
		go r.passOn(server, client, epoch)
	}
}

func (r *relay) passOn(from, to net.Conn, epoch int32) {
	data := make([]byte, 1<<16)
	for {
		n, err := from.Read(data)
		if r.epoch.Load() != epoch {
			return // Swallowed: neither passed on nor told.
		}
		if n > 0 {
			_, err = to.Write(data[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// Nobody says that the connection is dead. Without a look at it a call would wait there until its patience ends.
func TestANetworkThatSwallowsEverythingIsNoticed(t *testing.T) {
	r := newRig(t, kinds[0])
	relay := newRelay(t, r.assentd.Address())
	client, err := assent.NewClient(relay.listener.Addr().String(), assent.WithCallPatience(2*time.Minute))
	must(t, err)
	defer client.Close()
	transfer := func(ctx context.Context, tx *assent.Global) error {
		r.transfer(ctx, t, tx)
		return nil
	}
	must(t, client.Transact(ctx, transfer))
	client.Flush(ctx)
	relay.swallow()
	begun := time.Now()
	must(t, client.Transact(ctx, transfer))
	if took := time.Since(begun); took > 45*time.Second {
		t.Errorf("it took %v", took)
	}
	r.expectValues(t, 1, 98, 102)
}
