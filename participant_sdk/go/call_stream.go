package assent

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "assent.example/assent/assentv1"
)

// A call that is larger is better made as a unary one: a message of the stream holds no more than this.
const maxStreamCallBytes = 1 << 20

// callStream is the calls of this process to one coordinator on one stream (CoordinatorService.Converse). Calls that are
// made while others are being sent travel together. It connects at the first call, and again after the stream broke.
//
// Safe for concurrent use.
type callStream struct {
	stub         v1.CoordinatorServiceClient
	waitForReady bool // Calls wait for a coordinator that is away, until their deadline; else they fail at once.

	mu     sync.Mutex
	closed bool
	wire   *wire // Nil: there is no stream.
	lastID int64
}

// wire is one stream, from its start to its end, and the calls on it. Guarded by the callStream's mu.
type wire struct {
	ended   context.CancelFunc
	wake    chan struct{} // Something is unsent. Of capacity 1.
	unsent  []unsentCall
	pending map[int64]chan<- streamResult // Each of capacity 1.
}

type unsentCall struct {
	call *v1.StreamCall
	size int
}

type streamResult struct {
	answer *v1.StreamAnswer
	err    error
}

// call sends a call of about so many bytes, whose id and patience are set here, and waits. The answer may hold an error of the coordinator's.
// Errors: the context's; UNAVAILABLE: the stream broke, or there is none; after these it is not known whether the call had
// its effect. UNIMPLEMENTED: this coordinator, or what is in between, has no stream. Others, as the transport says:
// UNAUTHENTICATED, PERMISSION_DENIED.
func (s *callStream) call(ctx context.Context, call *v1.StreamCall, size int) (*v1.StreamAnswer, error) {
	if deadline, limited := ctx.Deadline(); limited {
		call.Patience = durationpb.New(time.Until(deadline))
	}
	result := make(chan streamResult, 1)
	w := s.enqueue(unsentCall{call, size}, result)
	if w == nil {
		return nil, status.Error(codes.Canceled, "the client has been closed")
	}
	select {
	case got := <-result:
		return got.answer, got.err
	case <-ctx.Done():
		s.giveUp(w, call)
		return nil, ctx.Err()
	}
}

// enqueue answers the stream that the call is on; nil after close.
func (s *callStream) enqueue(one unsentCall, result chan<- streamResult) *wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.wire == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.wire = &wire{ended: cancel, wake: make(chan struct{}, 1), pending: map[int64]chan<- streamResult{}}
		go s.run(ctx, s.wire)
	}
	s.lastID++
	one.call.Id = s.lastID
	s.wire.pending[one.call.Id] = result
	s.wire.unsent = append(s.wire.unsent, one)
	select {
	case s.wire.wake <- struct{}{}:
	default: // The sender will look anyway.
	}
	return s.wire
}

// giveUp forgets a call; nobody waits for its answer any more.
func (s *callStream) giveUp(w *wire, call *v1.StreamCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(w.pending, call.Id)
	for i := range w.unsent {
		if w.unsent[i].call == call {
			w.unsent = append(w.unsent[:i:i], w.unsent[i+1:]...)
			return
		}
	}
}

// run is the life of a stream: it opens it, receives for all callers, and tells those that are left of its end.
func (s *callStream) run(ctx context.Context, w *wire) {
	stream, err := s.stub.Converse(ctx, grpc.WaitForReady(s.waitForReady))
	if err == nil {
		go s.send(ctx, w, stream)
		for err == nil {
			var message *v1.ConverseResponse
			if message, err = stream.Recv(); err == nil {
				s.deliver(w, message)
			}
		}
	}
	s.end(w, brokenBy(err))
}

// send sends what there is, whenever there is something. It has a goroutine of its own: if the coordinator does not read,
// sending blocks, and each caller must still be able to leave.
func (s *callStream) send(ctx context.Context, w *wire, stream v1.CoordinatorService_ConverseClient) {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		for message := s.take(w); len(message.Calls) > 0; message = s.take(w) {
			if stream.Send(message) != nil {
				return // Recv says why.
			}
		}
	}
}

// take answers what is to be sent next.
func (s *callStream) take(w *wire) *v1.ConverseRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	message, count := &v1.ConverseRequest{}, 0
	for bytes := 0; count < len(w.unsent) && bytes < maxStreamCallBytes; count++ {
		message.Calls = append(message.Calls, w.unsent[count].call)
		bytes += w.unsent[count].size
	}
	w.unsent = w.unsent[count:]
	return message
}

func (s *callStream) deliver(w *wire, message *v1.ConverseResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range message.GetAnswers() {
		if result := w.pending[answer.GetId()]; result != nil { // Else its caller has given up.
			delete(w.pending, answer.GetId())
			result <- streamResult{answer: answer}
		}
	}
}

// end: the stream has ended, and so have the calls that are on it.
func (s *callStream) end(w *wire, why error) {
	w.ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == w {
		s.wire = nil
	}
	for _, result := range w.pending {
		result <- streamResult{err: why}
	}
	w.pending, w.unsent = nil, nil
}

// close ends the stream; calls fail from now on.
func (s *callStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.wire != nil {
		s.wire.ended()
	}
}

// brokenBy is what the end of a stream says about the calls on it.
func brokenBy(err error) error {
	switch status.Code(err) {
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return err
	}
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unavailable, "the stream to the coordinator has ended")
	}
	return status.Error(codes.Unavailable, status.Convert(err).Message())
}
