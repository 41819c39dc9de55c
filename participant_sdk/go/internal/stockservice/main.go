// Command stockservice is the last of three services, each in another language, that have a part in one transaction
// (tests/languages): it reserves goods in the transaction that its caller's call carries.
//
//	stockservice ASSENTD POSTGRES_URL LISTEN
package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"strconv"

	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"assent.example/assent"
	"assent.example/assent/assentgrpc"
)

type stock struct{ db *sql.DB }

func (s *stock) reserve(ctx context.Context, order *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	tx := assent.FromContext(ctx)
	if tx == nil {
		return nil, status.Error(codes.FailedPrecondition, "goods are reserved in a transaction only")
	}
	id, err := strconv.ParseInt(order.GetValue(), 10, 64)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	err = tx.Branch(ctx, "stock", s.db, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "INSERT INTO chain.ledger VALUES ($1)", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return wrapperspb.String("reserved"), nil
}

// What a generated service would be.
func (s *stock) description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "chain.Stock", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Reserve",
		Handler: func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			order := &wrapperspb.StringValue{}
			if err := decode(order); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, request any) (any, error) {
				return s.reserve(ctx, request.(*wrapperspb.StringValue))
			}
			return interceptor(ctx, order, &grpc.UnaryServerInfo{Server: s, FullMethod: "/chain.Stock/Reserve"}, handle)
		},
	}}}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: stockservice ASSENTD POSTGRES_URL LISTEN")
	}
	client, err := assent.NewClient(arguments[0])
	if err != nil {
		return err
	}
	defer client.Close()
	db, err := sql.Open("pgx", arguments[1])
	if err != nil {
		return err
	}
	defer db.Close()
	listener, err := net.Listen("tcp", arguments[2])
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(assentgrpc.UnaryServerInterceptor(client)))
	s := &stock{db: db}
	server.RegisterService(s.description(), s)
	fmt.Println("listening")
	return server.Serve(listener)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stockservice:", err)
		os.Exit(1)
	}
}
