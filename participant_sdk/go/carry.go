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

// TakePart is what a service does with a call that carries a transaction: it joins it, runs handle with it in the context,
// and votes. Nil: the votes count; the branches are finished in the background once it is decided. If handle answers an
// error or panics, the transaction is rolled back and that error is answered.
func (c *Client) TakePart(ctx context.Context, gtrid string, handle func(ctx context.Context) error) error {
	tx, err := c.Join(gtrid)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			_ = tx.Rollback(ctx, "the handler panicked")
		}
		_ = tx.Close() // Nothing after Vote.
	}()
	err = handle(NewContext(ctx, tx))
	returned = true
	if err != nil {
		_ = tx.Rollback(ctx, "the handler failed: "+err.Error())
		return err
	}
	if tx.hasPart() {
		return tx.Vote(ctx)
	}
	return nil
}

// hasPart tells whether anything was done in it here, or tried.
func (tx *Global) hasPart() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return len(tx.branches) > 0 || len(tx.refused) > 0 || len(tx.created) > 0
}
