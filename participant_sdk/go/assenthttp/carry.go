// Package assenthttp lets HTTP requests carry a global transaction: the callee's handler runs as a part of it by itself.
package assenthttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"

	"assent.example/assent"
)

// Transport passes on the transaction of the request's context and its traceparent. An error, and nothing is sent, if
// the transaction was begun WithSoleParticipant: nobody could join it.
type Transport struct {
	// Base makes the requests; nil: http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	ctx := request.Context()
	tx, traceparent := assent.FromContext(ctx), assent.Traceparent(ctx)
	if tx == nil && traceparent == "" {
		return base.RoundTrip(request)
	}
	request = request.Clone(ctx) // A RoundTripper must not change its caller's.
	if tx != nil {
		if tx.IsSole() {
			return nil, fmt.Errorf("the request would carry global transaction '%s', which was begun with sole_participant: "+
				"nobody else can take part in it. Begin it without that", tx.Gtrid())
		}
		request.Header.Set(assent.GtridHeader, tx.Gtrid())
	}
	if traceparent != "" {
		request.Header.Set(assent.TraceparentMetadata, traceparent)
	}
	return base.RoundTrip(request)
}

var errStatus = errors.New("it answered an error")

// Handler makes a handler that is called with a transaction a part of it. It finds the transaction with
// assent.FromContext(request.Context()), and opens its branches as ever. Its answer is kept until it returns, so its
// http.ResponseWriter can neither flush nor be hijacked, and informational statuses (1xx, like 103 Early Hints) are left
// out. If the answer's status is 200 to 399 the branches are prepared and voted for before it leaves, and finished in the
// background once it is decided; if the vote does not count the answer is 409 (rolled back) or 503. Else, or if it panics,
// the transaction is rolled back. The first status counts, as ever, but for an error after another one: nothing has left
// yet, so the error is the answer. Requests without a transaction are left alone. 400 if what came is no gtrid.
func Handler(client *assent.Client, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		ctx := assent.WithTraceparent(request.Context(), request.Header.Get(assent.TraceparentMetadata))
		gtrids := request.Header.Values(assent.GtridHeader)
		if len(gtrids) == 0 {
			handler.ServeHTTP(w, request.WithContext(ctx))
			return
		}
		kept := &keptAnswer{header: http.Header{}, status: http.StatusOK}
		err := fmt.Errorf("the request carries %d global transactions", len(gtrids))
		if len(gtrids) == 1 {
			err = client.TakePart(ctx, gtrids[0], func(ctx context.Context) error {
				handler.ServeHTTP(kept, request.WithContext(ctx))
				if !succeeds(kept.status) {
					return fmt.Errorf("%w: %d", errStatus, kept.status)
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errStatus) {
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		for name, values := range kept.header {
			w.Header()[name] = values
		}
		w.WriteHeader(kept.status)
		_, _ = w.Write(kept.body.Bytes())
	})
}

func statusOf(err error) int {
	var known *assent.Error
	if errors.As(err, &known) {
		switch known.Code {
		case codes.Aborted, codes.FailedPrecondition:
			return http.StatusConflict
		case codes.Unavailable, codes.Unknown:
			return http.StatusServiceUnavailable
		}
	}
	return http.StatusBadRequest
}

// keptAnswer holds an answer back until the vote counts.
type keptAnswer struct {
	header  http.Header
	body    bytes.Buffer
	status  int
	written bool
}

func (k *keptAnswer) Header() http.Header { return k.header }

// succeeds tells a final status that may be voted for. 101 is none: no protocol can be switched to while the answer is kept.
func succeeds(status int) bool {
	return status >= http.StatusOK && status < http.StatusBadRequest
}

func (k *keptAnswer) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999: // As net/http does, which would do it when the vote is out.
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	case status < http.StatusOK && status != http.StatusSwitchingProtocols: // The answer is still to come.
	case !k.written:
		k.written, k.status = true, status
	case succeeds(k.status) && !succeeds(status):
		k.status = status
		k.body.Reset()
		k.header.Del("Content-Length") // Of what it would have been.
	}
}

func (k *keptAnswer) Write(data []byte) (int, error) {
	k.written = true
	return k.body.Write(data)
}
