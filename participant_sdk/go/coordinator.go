package assent

import (
	"context"
	"math/rand"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1 "assent.example/assent/assentv1"
)

const (
	// One attempt of a call; a waiting call answers well before it (the server's limit for one wait is 60 s).
	attemptTimeout = 20 * time.Second
	// The same if there is somebody else to ask: an instance that hangs is left after so long.
	attemptOfSeveralTimeout = 2 * time.Second
	// After the last attempt, to learn why nobody answers.
	lastLookTimeout = 100 * time.Millisecond
	firstPause      = 10 * time.Millisecond
	maxPause        = time.Second
	// What the coordinator may send ahead of what was read here: some hundred messages.
	channelWindow = 1 << 20
)

// instance is one process of the coordinator.
type instance struct {
	address string
	channel *grpc.ClientConn
	stub    v1.CoordinatorServiceClient
	stream  *callStream
	unary   atomic.Bool // Calls go one by one: the stream was not wanted, or not offered.
}

// coordinator makes calls to the coordinator and repeats them while it is away. Every call of the API is idempotent, so a
// repetition is always safe, at whichever instance: they share what they know. It stays with one as long as that answers.
// The calls to an instance share one stream, unless it offers none.
//
// Safe for concurrent use. Errors are *Error: the coordinator's own, or COORDINATOR_UNREACHABLE once giveUp has passed
// without an answer, or the context has ended, or at once after close; then it is not known whether the call had its effect.
type coordinator struct {
	instances []*instance // At least one.
	current   int64
	attempts  int64
	closed    chan struct{}
}

// newCoordinator: INVALID_FIELD.
func newCoordinator(addresses string, options *clientOptions) (*coordinator, error) {
	credentials := options.credentials
	if credentials == nil {
		credentials = insecure.NewCredentials()
	}
	c := &coordinator{closed: make(chan struct{})}
	distinct, refused := distinctAddresses(addresses)
	if refused != nil {
		return nil, refused
	}
	for _, address := range distinct {
		target := address
		if !isTarget(address) {
			target = "passthrough:///" + address // The dialer resolves names itself, also when they have changed.
		}
		channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(credentials),
			grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
			// A window of a fixed size: one that adapts itself costs a ping for most messages.
			grpc.WithInitialWindowSize(channelWindow), grpc.WithInitialConnWindowSize(channelWindow),
			// A connection that something in between has forgotten without a word is noticed, and made anew.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}),
			// A restarting coordinator is away for a second: look for it often.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: time.Second,
			}))
		if err != nil {
			c.close()
			return nil, badAddress(address).because(err)
		}
		one := &instance{address: address, channel: channel, stub: v1.NewCoordinatorServiceClient(channel)}
		// A call that waits for the connection saves repetitions; but only one that does not can go elsewhere.
		one.stream = &callStream{stub: one.stub, waitForReady: len(distinct) == 1}
		one.unary.Store(!options.callStream)
		c.instances = append(c.instances, one)
	}
	c.current = rand.Int63n(int64(len(c.instances))) // So that clients spread.
	return c, nil
}

// distinctAddresses reads the addresses without blanks and doubles. INVALID_FIELD if there are none, or for one that can be
// none, so that a slip is not taken for a coordinator that is away.
func distinctAddresses(addresses string) ([]string, *Error) {
	var out []string
	known := map[string]bool{}
	for _, address := range strings.Split(addresses, ",") {
		address = strings.TrimSpace(address)
		if address == "" || known[address] {
			continue
		}
		if !isTarget(address) && !isHostAndPort(address) {
			return nil, badAddress(address)
		}
		known[address] = true
		out = append(out, address)
	}
	if out == nil {
		return nil, badAddress(addresses)
	}
	return out, nil
}

func badAddress(address string) *Error {
	return newError(InvalidField, "'"+address+"' cannot be the address of a coordinator, which is host:port (a port of 1 to 65535), "+
		"[v6]:port, unix:PATH, or a target of gRPC's like dns:///host:port", map[string]string{"field": "addresses"})
}

// isTarget tells what gRPC's own resolvers take.
func isTarget(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	scheme, _, found := strings.Cut(address, "://")
	if !found {
		return false
	}
	switch scheme {
	case "dns", "ipv4", "ipv6", "unix", "passthrough", "xds":
		return true
	}
	return false
}

// isHostAndPort: names are not looked up yet.
func isHostAndPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

// close ends the calls that are under way, and refuses others. Once only.
func (c *coordinator) close() {
	close(c.closed)
	for _, one := range c.instances {
		one.stream.close()
		_ = one.channel.Close()
	}
}

func (c *coordinator) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func (c *coordinator) allAddresses() string {
	addresses := make([]string, len(c.instances))
	for i, one := range c.instances {
		addresses[i] = one.address
	}
	return strings.Join(addresses, ",")
}

func (c *coordinator) currentAddress() string {
	return c.instances[atomic.LoadInt64(&c.current)].address
}

// leave makes calls go to the next instance, unless they have left this one already.
func (c *coordinator) leave(index int64) {
	atomic.CompareAndSwapInt64(&c.current, index, (index+1)%int64(len(c.instances)))
}

// jitter is between half the pause and all of it, so that callers do not come back together.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + time.Duration(rand.Int63n(int64(pause/2)+1))
}

// pause sleeps, less if the connection to the next instance comes up, or after close; false if the context ends.
func (c *coordinator) pause(ctx context.Context, wait time.Duration) bool {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if len(c.instances) > 1 { // A call to the only one waits for its connection itself.
		next := c.instances[atomic.LoadInt64(&c.current)].channel
		next.Connect()
		for state := next.GetState(); state != connectivity.Ready && state != connectivity.Shutdown; state = next.GetState() {
			if !next.WaitForStateChange(limited, state) {
				break
			}
			if next.GetState() == connectivity.Ready {
				return true
			}
			next.Connect()
		}
	}
	select {
	case <-limited.Done():
	case <-c.closed:
	}
	return ctx.Err() == nil
}

// method is one of the calls that a participant makes: as a unary call, and as one on the stream.
type method[Request proto.Message, Response comparable] struct {
	unary func(v1.CoordinatorServiceClient, context.Context, Request, ...grpc.CallOption) (Response, error)
	put   func(*v1.StreamCall, Request)
	take  func(*v1.StreamAnswer) Response
}

var (
	createGlobalMethod = method[*v1.CreateGlobalRequest, *v1.CreateGlobalResponse]{v1.CoordinatorServiceClient.CreateGlobal,
		func(call *v1.StreamCall, request *v1.CreateGlobalRequest) {
			call.Request = &v1.StreamCall_CreateGlobal{CreateGlobal: request}
		}, (*v1.StreamAnswer).GetCreateGlobal}
	createBranchesMethod = method[*v1.CreateBranchesRequest, *v1.CreateBranchesResponse]{v1.CoordinatorServiceClient.CreateBranches,
		func(call *v1.StreamCall, request *v1.CreateBranchesRequest) {
			call.Request = &v1.StreamCall_CreateBranches{CreateBranches: request}
		}, (*v1.StreamAnswer).GetCreateBranches}
	preparedMethod = method[*v1.PreparedRequest, *v1.PreparedResponse]{v1.CoordinatorServiceClient.Prepared,
		func(call *v1.StreamCall, request *v1.PreparedRequest) {
			call.Request = &v1.StreamCall_Prepared{Prepared: request}
		}, (*v1.StreamAnswer).GetPrepared}
	finalizeMethod = method[*v1.FinalizeRequest, *v1.FinalizeResponse]{v1.CoordinatorServiceClient.Finalize,
		func(call *v1.StreamCall, request *v1.FinalizeRequest) {
			call.Request = &v1.StreamCall_Finalize{Finalize: request}
		}, (*v1.StreamAnswer).GetFinalize}
	completedMethod = method[*v1.CompletedRequest, *v1.CompletedResponse]{v1.CoordinatorServiceClient.Completed,
		func(call *v1.StreamCall, request *v1.CompletedRequest) {
			call.Request = &v1.StreamCall_Completed{Completed: request}
		}, (*v1.StreamAnswer).GetCompleted}
	reserveGtridsMethod = method[*v1.ReserveGtridsRequest, *v1.ReserveGtridsResponse]{v1.CoordinatorServiceClient.ReserveGtrids,
		func(call *v1.StreamCall, request *v1.ReserveGtridsRequest) {
			call.Request = &v1.StreamCall_ReserveGtrids{ReserveGtrids: request}
		}, (*v1.StreamAnswer).GetReserveGtrids}
)

// attempt makes a call once, at one instance: on its stream, or, where there is none, as a unary call. The last look is a
// unary call that does not wait for the connection: only such a one is told why there is none.
func attempt[Request proto.Message, Response comparable](ctx context.Context, at *instance, m *method[Request, Response],
	request Request, lastLook bool) (response Response, err error) {
	if size := proto.Size(request); !at.unary.Load() && !lastLook && size < maxStreamCallBytes {
		call := &v1.StreamCall{}
		m.put(call, request)
		answer, err := at.stream.call(ctx, call, size)
		switch {
		case status.Code(err) == codes.Unimplemented:
			at.unary.Store(true) // For ever.
		case err != nil:
			return response, err
		case answer.GetError() != nil:
			return response, errorOfRPC(answer.Error)
		default:
			var none Response
			if response = m.take(answer); response == none {
				err = status.Error(codes.Internal, "the coordinator answered another call than was made")
			}
			return response, err
		}
	}
	return m.unary(at.stub, ctx, request, grpc.WaitForReady(at.stream.waitForReady && !lastLook))
}

// callOf makes one call, as often as needed.
func callOf[Request proto.Message, Response comparable](ctx context.Context, c *coordinator, m *method[Request, Response],
	request Request, giveUp time.Time) (Response, *Error) {
	var none Response
	count := int64(len(c.instances))
	alone, lastLook, wait := count == 1, false, firstPause
	for tries := int64(1); ; tries++ {
		if c.isClosed() {
			return none, c.unreachable("the client has been closed", nil)
		}
		index := atomic.LoadInt64(&c.current)
		most := attemptOfSeveralTimeout
		if alone {
			most = attemptTimeout
		}
		deadline := time.Now().Add(most)
		if lastLook {
			deadline = time.Now().Add(lastLookTimeout)
		} else if giveUp.Before(deadline) {
			deadline = giveUp
		}
		limited, cancel := context.WithDeadline(ctx, deadline)
		atomic.AddInt64(&c.attempts, 1)
		response, err := attempt(limited, c.instances[index], m, request, lastLook)
		cancel()
		failed := errorOf(err)
		if failed == nil {
			return response, nil
		}
		if ctx.Err() != nil && mayRepeat(failed) {
			return none, c.unreachable("the call was given up by its context: "+ctx.Err().Error(), ctx.Err())
		}
		if !mayRepeat(failed) {
			return none, failed
		}
		if c.isClosed() {
			continue // Which says so.
		}
		if isAway(failed) {
			c.leave(index)
		}
		sleep := time.Duration(0)
		if tries >= count { // The others are asked at once.
			sleep = jitter(wait)
		}
		if !time.Now().Add(sleep).Before(giveUp) {
			if alone && failed.Code == codes.DeadlineExceeded && !lastLook {
				lastLook = true
				continue
			}
			return none, c.unreachable("it does not answer: "+failed.Message, failed)
		}
		if sleep == 0 {
			continue
		}
		if !c.pause(ctx, sleep) {
			return none, c.unreachable("the call was given up by its context: "+ctx.Err().Error(), ctx.Err())
		}
		if wait *= 2; wait > maxPause/time.Duration(count) {
			wait = maxPause / time.Duration(count)
		}
	}
}

func (c *coordinator) unreachable(why string, cause error) *Error {
	return newError(CoordinatorUnreachable,
		"the coordinator at "+c.allAddresses()+": "+why+"; whether the call had its effect is not known",
		map[string]string{"address": c.allAddresses(), "last_error": why}).because(cause)
}

// isWaitOver tells whether a status has what a wait asked for.
func isWaitOver(wait v1.Wait, status *v1.GlobalStatus) bool {
	switch wait {
	case v1.Wait_WAIT_NONE:
		return true
	case v1.Wait_WAIT_APPLIED:
		return status.GetOutcome() == v1.Outcome_OUTCOME_COMMITTED || status.GetOutcome() == v1.Outcome_OUTCOME_ROLLED_BACK ||
			status.GetState() == v1.Global_STATE_HEURISTIC || status.GetState() == v1.Global_STATE_HEURISTIC_CLOSED
	}
	return status.GetDecision() != v1.Decision_DECISION_UNSPECIFIED
}

func (c *coordinator) createGlobal(ctx context.Context, request *v1.CreateGlobalRequest, giveUp time.Time) (*v1.Global, *Error) {
	response, err := callOf(ctx, c, &createGlobalMethod, request, giveUp)
	return response.GetGlobal(), err
}

func (c *coordinator) createBranches(ctx context.Context, request *v1.CreateBranchesRequest, giveUp time.Time) (*v1.CreateBranchesResponse, *Error) {
	return callOf(ctx, c, &createBranchesMethod, request, giveUp)
}

func (c *coordinator) reserveGtrids(ctx context.Context, request *v1.ReserveGtridsRequest, giveUp time.Time) (*v1.ReserveGtridsResponse, *Error) {
	return callOf(ctx, c, &reserveGtridsMethod, request, giveUp)
}

// callAndWait goes on until what the request's Wait asks for has come, or giveUp: then the status that stands.
func callAndWait[Request interface {
	proto.Message
	GetWait() v1.Wait
}, Response interface {
	comparable
	GetStatus() *v1.GlobalStatus
}](ctx context.Context, c *coordinator, m *method[Request, Response], request Request, giveUp time.Time) (*v1.GlobalStatus, *Error) {
	for {
		response, err := callOf(ctx, c, m, request, giveUp)
		if err != nil || isWaitOver(request.GetWait(), response.GetStatus()) || !time.Now().Before(giveUp) {
			return response.GetStatus(), err
		}
	}
}

func (c *coordinator) prepared(ctx context.Context, request *v1.PreparedRequest, giveUp time.Time) (*v1.GlobalStatus, *Error) {
	return callAndWait(ctx, c, &preparedMethod, request, giveUp)
}

func (c *coordinator) finalize(ctx context.Context, request *v1.FinalizeRequest, giveUp time.Time) (*v1.GlobalStatus, *Error) {
	return callAndWait(ctx, c, &finalizeMethod, request, giveUp)
}

func (c *coordinator) completed(ctx context.Context, request *v1.CompletedRequest, giveUp time.Time) (*v1.CompletedResponse, *Error) {
	asked := atomic.LoadInt64(&c.current)
	response, err := callOf(ctx, c, &completedMethod, request, giveUp)
	// An instance that has lost its store says so of each.
	if err == nil && len(response.GetResults()) > 0 && response.Results[0].GetError() != nil &&
		isAway(errorOfRPC(response.Results[0].Error)) {
		c.leave(asked)
	}
	return response, err
}
