package assent

import (
	"context"
	"regexp"
)

// How a call carries the transaction: gRPC metadata and HTTP headers of these names (assentgrpc and assenthttp pass
// them).
const (
	GtridMetadata       = "assent-gtrid"
	GtridHeader         = "Assent-Gtrid"
	TraceparentMetadata = "traceparent" // W3C Trace Context; the same in HTTP.
)

var traceparentPattern = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$`)

type traceparentKey struct{}

// WithTraceparent puts a W3C traceparent into the context, for calls to take along. One that is none is left out.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	if !traceparentPattern.MatchString(traceparent) {
		return ctx
	}
	return context.WithValue(ctx, traceparentKey{}, traceparent)
}

// Traceparent answers the one of the context; empty if there is none.
func Traceparent(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceparentKey{}).(string)
	return traceparent
}
