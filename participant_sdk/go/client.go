package assent

import (
	"context"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
)

// Client is the way in: it holds the connection to the coordinator. Safe for concurrent use; make one and keep it.
type Client struct {
	options     clientOptions
	coordinator *coordinator
	reservation *reservation
	reporter    *reporter
	pools       sync.Map // *sql.DB → *pool: what is known of the servers behind it.

	mu         sync.Mutex     // Guards closed, and what it says of background.
	closed     bool           // Nothing is added to background any more.
	background sync.WaitGroup // Work that goes on after its caller was answered.
	closing    chan struct{}
	closeOnce  sync.Once
}

// NewClient makes a client. addresses: host:port of assentd, or of several instances that share a store, separated by
// commas. It begins with any of them, stays with the one that works, and goes on to the next when that does not answer.
// It connects at the first call, so assentd need not run yet. IPv6 as [::1]:port; also unix:PATH, and gRPC's own targets
// like dns:///host:port. Errors: INVALID_FIELD for what can be no address.
func NewClient(addresses string, options ...ClientOption) (*Client, error) {
	client := &Client{closing: make(chan struct{})}
	client.options = clientOptions{callPatience: 30 * time.Second, decisionPatience: 5 * time.Minute,
		sessionTimeout: 10 * time.Minute, logger: log.Default(), callStream: true}
	for _, option := range options {
		option(&client.options)
	}
	var err error
	if client.coordinator, err = newCoordinator(addresses, &client.options); err != nil {
		return nil, err
	}
	client.reservation = &reservation{coordinator: client.coordinator}
	client.reporter = newReporter(client.coordinator, client.options.logger)
	return client, nil
}

// Begin begins a global transaction. End it with Commit or Rollback; `defer tx.Close()` rolls back what nobody ended.
//
// Errors: the coordinator's, or COORDINATOR_UNREACHABLE after the call patience or when ctx ends.
func (c *Client) Begin(ctx context.Context, options ...BeginOption) (*Global, error) {
	chosen := beginOptions{policy: OnFinalize}
	for _, option := range options {
		option(&chosen)
	}
	if chosen.soleParticipant {
		return c.beginAlone(ctx, &chosen)
	}
	request := &v1.CreateGlobalRequest{Gtrid: chosen.gtrid, RequestId: newRequestID(), Policy: chosen.policy,
		ExpectedBranches: int32(chosen.expectedBranches)}
	if chosen.timeout != 0 {
		request.Timeout = durationpb.New(chosen.timeout)
	}
	for _, resource := range chosen.resources {
		request.Branches = append(request.Branches, &v1.BranchSpec{Resource: resource})
	}
	made, err := c.coordinator.createGlobal(ctx, request, time.Now().Add(c.options.callPatience))
	if err != nil {
		return nil, err
	}
	tx := newGlobal(c, made.GetGtrid(), made.GetPolicy())
	tx.created = made.GetBranches()
	return tx, nil
}

func (c *Client) beginAlone(ctx context.Context, chosen *beginOptions) (*Global, error) {
	if chosen.policy != OnFinalize || chosen.expectedBranches != 0 {
		return nil, newError(InvalidField,
			"sole_participant goes with the default policy and expected_branches only: it is the one who decides",
			map[string]string{"field": "sole_participant"})
	}
	if chosen.timeout != 0 && chosen.timeout < time.Millisecond { // At Commit it would be too late to refuse it.
		return nil, newError(InvalidTimeout, "the timeout must be at least 1ms", map[string]string{"field": "timeout"})
	}
	gtrid := chosen.gtrid
	if gtrid != "" {
		if _, ok := birthOf(gtrid); !ok || idProblem(gtrid) != "" {
			return nil, newError(InvalidField,
				"the gtrid of a sole participant must be <cluster>-<ULID>, made now and never used; or leave it empty",
				map[string]string{"field": "gtrid"})
		}
	} else {
		var err *Error
		if gtrid, err = c.reservation.takeGtrid(ctx, time.Now().Add(c.options.callPatience)); err != nil {
			return nil, err
		}
	}
	tx := newGlobal(c, gtrid, chosen.policy)
	tx.sole, tx.timeout, tx.mayEndInOnePhase = true, chosen.timeout, !chosen.twoPhases && chosen.gtrid == ""
	return tx, nil
}

// Join takes part in a transaction that another process began. It asks nobody: the first branch does. INVALID_GTRID.
func (c *Client) Join(gtrid string) (*Global, error) {
	if err := validateGtrid(gtrid); err != nil {
		return nil, err
	}
	tx := newGlobal(c, gtrid, v1.DecisionPolicy_DECISION_POLICY_UNSPECIFIED)
	tx.joined = true
	return tx, nil
}

// Transact begins a global transaction, runs fn, and commits it. A nil answer means committed, proven; see Global for the
// others.
//
// If fn answers an error or panics it is rolled back, and that error is answered as it is (or the panic goes on). But if it
// turns out that it has been committed, by fn itself or by the workers' votes (WhenAllPrepared), or that it is in doubt,
// the answer says so, GLOBAL_COMMITTED or OUTCOME_IN_DOUBT, with fn's error behind it for errors.Is and errors.As.
func (c *Client) Transact(ctx context.Context, fn func(ctx context.Context, tx *Global) error, options ...BeginOption) error {
	tx, err := c.Begin(ctx, options...)
	if err != nil {
		return err
	}
	defer tx.Close()
	if err := fn(NewContext(ctx, tx), tx); err != nil {
		return tx.rollBackFor(ctx, err)
	}
	return tx.Commit(ctx)
}

// Flush waits until the coordinator has been told how all finished branches ended; false if the context ended first.
func (c *Client) Flush(ctx context.Context) bool { return c.reporter.flush(ctx) }

// CallsSent counts the calls sent to the coordinator so far, repetitions included; for metrics and benchmarks.
func (c *Client) CallsSent() int64 { return atomic.LoadInt64(&c.coordinator.attempts) }

// CurrentAddress answers the instance that the next call goes to.
func (c *Client) CurrentAddress() string { return c.coordinator.currentAddress() }

// goOn does work in the background; Close waits for it, if it has not begun.
func (c *Client) goOn(work func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // A WaitGroup that is waited for takes no more.
		go work()
		return
	}
	c.background.Add(1)
	go func() {
		defer c.background.Done()
		work()
	}()
}

// Close tells the coordinator what is still to be told (5 s at most) and lets go of the connection. Branches that still
// wait for their decision in the background are left to the coordinator. End all transactions first: calls that are still
// under way then, and later ones, end at once with COORDINATOR_UNREACHABLE, "the client has been closed".
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		close(c.closing)
		ctx, cancel := context.WithTimeout(context.Background(), flushAtClose)
		defer cancel()
		ended := make(chan struct{})
		go func() {
			c.background.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		if !c.reporter.close(ctx) {
			c.options.logger.Printf("assent: completions could not be reported; the coordinator will find them out at the databases")
		}
		c.coordinator.close()
	})
	return nil
}

type contextKey struct{}

// NewContext carries the transaction in the context: for functions below, and for the interceptors, which take it along
// to the services that are called.
func NewContext(ctx context.Context, tx *Global) context.Context {
	return context.WithValue(ctx, contextKey{}, tx)
}

// FromContext answers the transaction of the context; nil if there is none.
func FromContext(ctx context.Context) *Global {
	tx, _ := ctx.Value(contextKey{}).(*Global)
	return tx
}
