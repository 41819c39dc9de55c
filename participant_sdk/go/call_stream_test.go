package assent_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"assent.example/assent"
	v1 "assent.example/assent/assentv1"
	"assent.example/assent/internal/testbed"
)

// front stands before a coordinator and passes calls on: it counts them, and is an instance that can be lost alone.
type front struct {
	v1.UnimplementedCoordinatorServiceServer
	behind   v1.CoordinatorServiceClient
	noStream bool // As a coordinator that is older than Converse.
	address  string
	server   *grpc.Server

	streams, onStream, unary int64
	hangs                    int64 // Not zero: what comes on streams is not passed on.
}

func newFront(t *testing.T, behind *testbed.Assentd, noStream bool) *front {
	t.Helper()
	f := &front{behind: behind.Calls, noStream: noStream}
	f.server = grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		atomic.AddInt64(&f.unary, 1)
		return handler(ctx, request)
	}))
	v1.RegisterCoordinatorServiceServer(f.server, f)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.address = listener.Addr().String()
	go func() { _ = f.server.Serve(listener) }()
	t.Cleanup(f.server.Stop)
	return f
}

func (f *front) CreateGlobal(ctx context.Context, request *v1.CreateGlobalRequest) (*v1.CreateGlobalResponse, error) {
	return f.behind.CreateGlobal(ctx, request)
}

func (f *front) CreateBranches(ctx context.Context, request *v1.CreateBranchesRequest) (*v1.CreateBranchesResponse, error) {
	return f.behind.CreateBranches(ctx, request)
}

func (f *front) ReserveGtrids(ctx context.Context, request *v1.ReserveGtridsRequest) (*v1.ReserveGtridsResponse, error) {
	return f.behind.ReserveGtrids(ctx, request)
}

func (f *front) Prepared(ctx context.Context, request *v1.PreparedRequest) (*v1.PreparedResponse, error) {
	return f.behind.Prepared(ctx, request)
}

func (f *front) Finalize(ctx context.Context, request *v1.FinalizeRequest) (*v1.FinalizeResponse, error) {
	return f.behind.Finalize(ctx, request)
}

func (f *front) Completed(ctx context.Context, request *v1.CompletedRequest) (*v1.CompletedResponse, error) {
	return f.behind.Completed(ctx, request)
}

func (f *front) Converse(client v1.CoordinatorService_ConverseServer) error {
	atomic.AddInt64(&f.streams, 1)
	if f.noStream {
		return f.UnimplementedCoordinatorServiceServer.Converse(client)
	}
	ctx, cancel := context.WithCancel(client.Context())
	defer cancel()
	stream, err := f.behind.Converse(ctx)
	if err != nil {
		return err
	}
	go func() {
		defer cancel()
		for {
			message, err := client.Recv()
			if err != nil {
				return
			}
			atomic.AddInt64(&f.onStream, int64(len(message.Calls)))
			if atomic.LoadInt64(&f.hangs) == 0 && stream.Send(message) != nil {
				return
			}
		}
	}()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := client.Send(message); err != nil {
			return err
		}
	}
}

func clientOf(t *testing.T, addresses string, options ...assent.ClientOption) *assent.Client {
	t.Helper()
	client, err := assent.NewClient(addresses, append([]assent.ClientOption{assent.WithLogger(testLog{t})}, options...)...)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// beginAndRollBack makes two calls and touches no database.
func beginAndRollBack(ctx context.Context, client *assent.Client) error {
	tx, err := client.Begin(ctx)
	if err != nil {
		return err
	}
	return tx.Rollback(ctx, "")
}

// atOnce runs fn for 0 to count-1, side by side, and answers when all have ended.
func atOnce(count int, fn func(i int)) {
	var all sync.WaitGroup
	for i := 0; i < count; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			fn(i)
		}(i)
	}
	all.Wait()
}

func TestHowCallsTravel(t *testing.T) {
	r := newRig(t, kinds[0])
	for _, c := range []struct {
		name            string
		options         []assent.ClientOption
		noStream        bool
		streams         int64
		onStream, unary bool
	}{
		{name: "on one stream", streams: 1, onStream: true},
		{name: "one by one if that is wanted", options: []assent.ClientOption{assent.WithCallStream(false)}, unary: true},
		{name: "one by one if no stream is offered", noStream: true, streams: 1, unary: true}, // Asked for once.
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			f := newFront(t, r.assentd, c.noStream)
			client := clientOf(t, f.address, c.options...)
			must(t, beginAndRollBack(ctx, client))
			atOnce(16, func(int) {
				for i := 0; i < 20; i++ {
					if err := beginAndRollBack(ctx, client); err != nil {
						t.Error(err)
					}
				}
			})
			before := r.value(t, 0, 1)
			must(t, client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
				r.transfer(ctx, t, tx)
				return nil
			}, assent.WithSoleParticipant()))
			r.expectValues(t, 1, before-1, 200-before+1)
			client.Flush(ctx)
			streams, onStream, unary := atomic.LoadInt64(&f.streams), atomic.LoadInt64(&f.onStream), atomic.LoadInt64(&f.unary)
			if streams != c.streams || (onStream > 0) != c.onStream || (unary > 0) != c.unary {
				t.Errorf("%d streams, %d calls on them, %d others", streams, onStream, unary)
			}
		})
	}
}

func TestACallThatIsTooLargeForTheStream(t *testing.T) {
	r := newRig(t, kinds[0])
	f := newFront(t, r.assentd, false)
	client := clientOf(t, f.address)
	must(t, beginAndRollBack(ctx, client))
	_, err := client.Begin(ctx, assent.WithResources(strings.Split(strings.Repeat("orders,", 150000), ",")...))
	if expectReason(t, err, assent.TooManyBranches); atomic.LoadInt64(&f.unary) != 1 {
		t.Error(err, f.unary)
	}
	must(t, beginAndRollBack(ctx, client))
	if atomic.LoadInt64(&f.streams) != 1 || atomic.LoadInt64(&f.unary) != 1 {
		t.Error(f.streams, f.unary)
	}
}

// Many callers; the coordinator is killed under them, again and again. What was said to be committed is, and nothing else.
func TestTheCoordinatorIsKilledUnderManyCalls(t *testing.T) {
	const workers = 24
	r := newOwnRig(t, kinds[0])
	for i := range r.dbs {
		r.dbs[i].SetMaxIdleConns(workers)
		for id := 10; id < 10+workers; id++ {
			r.sql(t, i, fmt.Sprintf("INSERT INTO shop.t VALUES (%d, 0)", id))
		}
	}
	var stop int32
	var committed, rolledBack int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		atOnce(workers, func(worker int) {
			var options []assent.BeginOption
			if worker%2 == 0 {
				options = append(options, assent.WithSoleParticipant())
			}
			mine := 0
			for atomic.LoadInt32(&stop) == 0 {
				err := r.client.Transact(ctx, func(ctx context.Context, tx *assent.Global) error {
					for i := range r.dbs {
						if err := tx.Branch(ctx, r.names[i], r.dbs[i], add(1, 10+worker)); err != nil {
							return err
						}
					}
					return nil
				}, options...)
				switch {
				case err == nil:
					mine++
					atomic.AddInt64(&committed, 1)
				case errors.Is(err, assent.ErrRolledBack):
					atomic.AddInt64(&rolledBack, 1)
				default:
					t.Error(err)
					return
				}
			}
			r.expectValues(t, 10+worker, mine, mine)
		})
	}()
	for kills := 0; kills < 6; kills++ {
		time.Sleep(400 * time.Millisecond)
		r.assentd.Kill9()
		time.Sleep(50 * time.Millisecond)
		must(t, r.assentd.Restart())
	}
	time.Sleep(400 * time.Millisecond)
	atomic.StoreInt32(&stop, 1)
	<-ended
	t.Logf("%d committed, %d rolled back", committed, rolledBack)
	if committed < workers {
		t.Errorf("only %d transactions were committed", committed)
	}
	r.expectIdle(t)
}

// A coordinator that reads nothing: whoever waits leaves in time, also when no more can be sent; and all goes on after it.
func TestTheCoordinatorIsFrozen(t *testing.T) {
	assentd, err := testbed.StartAssentd()
	must(t, err)
	defer assentd.Kill9()
	patient := clientOf(t, assentd.Address())
	hasty := clientOf(t, assentd.Address(), assent.WithCallPatience(500*time.Millisecond))
	must(t, beginAndRollBack(ctx, patient))
	must(t, beginAndRollBack(ctx, hasty))
	assentd.Signal(syscall.SIGSTOP)
	large := assent.WithResources(strings.Split(strings.Repeat("nothing,", 10000), ",")...) // 16 of them fill any window.
	begun := time.Now()
	atOnce(64, func(i int) {
		switch i % 4 {
		case 0:
			_, err := hasty.Begin(ctx)
			known := &assent.Error{}
			if !errors.As(err, &known) || known.Reason != assent.CoordinatorUnreachable {
				t.Error(err)
			}
		case 1:
			_, _ = hasty.Begin(ctx, large)
		default:
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if _, err := patient.Begin(short, large); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
	})
	if took := time.Since(begun); took > 10*time.Second {
		t.Error(took)
	}
	answers := make(chan error, 8)
	for i := 0; i < cap(answers); i++ {
		go func() { answers <- beginAndRollBack(ctx, patient) }()
	}
	time.Sleep(200 * time.Millisecond)
	assentd.Signal(syscall.SIGCONT)
	for i := 0; i < cap(answers); i++ {
		must(t, <-answers)
	}
	must(t, beginAndRollBack(ctx, hasty))
}

func TestAnotherInstanceTakesOverTheStream(t *testing.T) {
	r := newRig(t, kinds[0])
	for _, how := range []string{"it ends", "it hangs"} {
		how := how
		t.Run(how, func(t *testing.T) {
			fronts := []*front{newFront(t, r.assentd, false), newFront(t, r.assentd, false)}
			client := clientOf(t, fronts[0].address+","+fronts[1].address)
			must(t, beginAndRollBack(ctx, client))
			first, second := fronts[0], fronts[1]
			if client.CurrentAddress() != first.address {
				first, second = second, first
			}
			begun := time.Now()
			atOnce(16, func(worker int) {
				for i := 0; i < 20; i++ {
					if worker == 0 && i == 10 {
						if how == "it ends" {
							first.server.Stop()
						} else {
							atomic.StoreInt64(&first.hangs, 1)
						}
					}
					if err := beginAndRollBack(ctx, client); err != nil {
						t.Error(err)
					}
				}
			})
			if took := time.Since(begun); took > 10*time.Second || client.CurrentAddress() != second.address {
				t.Error(took, client.CurrentAddress())
			}
			if atomic.LoadInt64(&second.streams) != 1 || atomic.LoadInt64(&second.unary) != 0 {
				t.Error(second.streams, second.unary)
			}
		})
	}
}

func TestCallsOfAClosedClient(t *testing.T) {
	r := newRig(t, kinds[0])
	client := clientOf(t, r.assentd.Address(), assent.WithCallPatience(100*time.Millisecond))
	must(t, beginAndRollBack(ctx, client))
	must(t, client.Close())
	_, err := client.Begin(ctx)
	expectReason(t, err, assent.CoordinatorUnreachable)
}
