// Package assentgrpc lets gRPC calls carry a global transaction: the callee's handler runs as a part of it by itself.
package assentgrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"assent.example/assent"
)

// UnaryClientInterceptor passes on the transaction of the call's context (assent.NewContext; Branch and Transact put it
// there) and its traceparent. FAILED_PRECONDITION, and nothing is sent, if the transaction was begun
// WithSoleParticipant: nobody could join it.
func UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if tx := assent.FromContext(ctx); tx != nil {
			if tx.IsSole() {
				return status.Errorf(codes.FailedPrecondition, "%s would carry global transaction '%s', which was begun with "+
					"sole_participant: nobody else can take part in it. Begin it without that", method, tx.Gtrid())
			}
			ctx = metadata.AppendToOutgoingContext(ctx, assent.GtridMetadata, tx.Gtrid())
		}
		if traceparent := assent.Traceparent(ctx); traceparent != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, assent.TraceparentMetadata, traceparent)
		}
		return invoke(ctx, method, request, reply, conn, options...)
	}
}

// UnaryServerInterceptor makes a handler that is called with a transaction a part of it. It finds the transaction with
// assent.FromContext, and opens its branches as ever. If it returns without an error they are prepared and voted for
// before the answer leaves, and finished in the background once it is decided; if the vote does not count the answer is
// that error (ABORTED: rolled back). If the handler returns an error or panics, the transaction is rolled back. Calls
// without one are left alone. INVALID_ARGUMENT (INVALID_GTRID) if what came is no gtrid.
func UnaryServerInterceptor(client *assent.Client) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		incoming, _ := metadata.FromIncomingContext(ctx)
		if values := incoming.Get(assent.TraceparentMetadata); len(values) == 1 {
			ctx = assent.WithTraceparent(ctx, values[0])
		}
		gtrids := incoming.Get(assent.GtridMetadata)
		if len(gtrids) == 0 {
			return handle(ctx, request)
		}
		if len(gtrids) > 1 {
			return nil, status.Errorf(codes.InvalidArgument, "the call carries %d global transactions", len(gtrids))
		}
		var answer any
		err := client.TakePart(ctx, gtrids[0], func(ctx context.Context) (err error) {
			answer, err = handle(ctx, request)
			return err
		})
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}
