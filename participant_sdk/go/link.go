package assent

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// link is one connection, held out of its pool: what the SDK itself says to the server goes over it.
//
// Nobody else has its sql.Conn, so nothing of database/sql touches the connection meanwhile, nor what it gave out (rows,
// statements). Not safe for concurrent use.
type link struct {
	conn       *sql.Conn
	driverConn any  // Which connection it is; to be used inside of use only.
	multi      bool // The connection takes several statements in one message.
	lost       bool // It cannot be used any more.
	released   bool
}

// pin takes a connection out of the pool. The error is the pool's.
func pin(ctx context.Context, db *sql.DB) (*link, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn}
	if err := l.use(func(driverConn any) error { l.driverConn = driverConn; return nil }); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}

// use runs fn with the driver's connection and answers its error; or sql.ErrConnDone after unpin.
func (l *link) use(fn func(driverConn any) error) error {
	var answer error
	if err := l.conn.Raw(func(driverConn any) error {
		answer = fn(driverConn)
		return nil // Whether the connection lives on is for unpin to say.
	}); err != nil {
		return err
	}
	return answer
}

// unpin gives the connection back to its pool; or, if it is lost or must not be used again, closes it for real.
func (l *link) unpin(discard bool) {
	if l.released {
		return
	}
	l.released = true
	if discard || l.lost {
		_ = l.conn.Raw(func(any) error { return driver.ErrBadConn }) // What makes database/sql close it.
		return
	}
	_ = l.conn.Close()
}

// exec sends statements, in one message if the connection takes that; it stops at the first error.
func (l *link) exec(ctx context.Context, statements ...string) *dbError {
	if l.multi && len(statements) > 1 {
		statements = []string{strings.Join(statements, ";")}
	}
	for _, statement := range statements {
		if _, failed := l.execArgs(ctx, statement, nil); failed != nil {
			return failed
		}
	}
	return nil
}

// errSkipped: the driver does not take such a statement directly; it has to be prepared first.
var errSkipped = &dbError{cause: driver.ErrSkip, message: driver.ErrSkip.Error()}

func (l *link) execArgs(ctx context.Context, statement string, args []driver.NamedValue) (driver.Result, *dbError) {
	if l.lost {
		return nil, &dbError{code: connectionLostCode, unsent: true, message: "the connection is lost"}
	}
	var result driver.Result
	err := l.use(func(driverConn any) (err error) {
		execer, ok := driverConn.(driver.ExecerContext)
		if !ok {
			return driver.ErrSkip
		}
		result, err = execer.ExecContext(ctx, statement, args)
		return err
	})
	if errors.Is(err, driver.ErrSkip) {
		return nil, errSkipped
	}
	return result, l.note(readError(err))
}

func (l *link) queryArgs(ctx context.Context, statement string, args []driver.NamedValue) (driver.Rows, *dbError) {
	if l.lost {
		return nil, &dbError{code: connectionLostCode, unsent: true, message: "the connection is lost"}
	}
	var rows driver.Rows
	err := l.use(func(driverConn any) (err error) {
		queryer, ok := driverConn.(driver.QueryerContext)
		if !ok {
			return driver.ErrSkip
		}
		rows, err = queryer.QueryContext(ctx, statement, args)
		return err
	})
	if errors.Is(err, driver.ErrSkip) {
		return nil, errSkipped
	}
	return rows, l.note(readError(err))
}

// note remembers the loss of the connection.
func (l *link) note(failed *dbError) *dbError {
	if failed.lost() {
		l.lost = true
	}
	return failed
}

// queryRow answers the one row of a statement, as text; NULL is "".
func (l *link) queryRow(ctx context.Context, statement string, args ...any) ([]string, *dbError) {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	rows, failed := l.queryArgs(ctx, statement, named)
	if failed != nil {
		return nil, failed
	}
	values := make([]driver.Value, len(rows.Columns()))
	err := rows.Next(values)
	text := make([]string, len(values))
	for i, value := range values {
		switch typed := value.(type) {
		case nil:
		case []byte:
			text[i] = string(typed)
		default:
			text[i] = fmt.Sprint(typed)
		}
	}
	if closed := rows.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, io.EOF) {
		return nil, &dbError{message: "the server answered no row"}
	}
	return text, l.note(readError(err))
}

// maxKnownConnections bounds what is remembered of connections that a pool has closed meanwhile.
const maxKnownConnections = 1024

// pool is what is known of the servers behind one *sql.DB. Safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	engine engine
	multi  bool
	known  map[any]any // By driver connection: what the engine has learnt of it.
}

// remember answers what is known of a connection, asking the server if nothing is.
func (p *pool) remember(ctx context.Context, l *link) (engine, any, *dbError) {
	p.mu.Lock()
	kind, multi, facts := p.engine, p.multi, p.known[l.driverConn]
	p.mu.Unlock()
	l.multi = multi
	if facts != nil {
		return kind, facts, nil
	}
	if kind == nil {
		row, failed := l.queryRow(ctx, "SELECT VERSION()")
		if failed != nil {
			return nil, nil, failed
		}
		if kind = engine(mysqlEngine{}); strings.HasPrefix(row[0], "PostgreSQL") {
			kind = postgresEngine{}
		}
		if l.multi, failed = kind.takesSeveral(ctx, l); failed != nil {
			return nil, nil, failed
		}
	}
	facts, failed := kind.learn(ctx, l)
	if failed != nil {
		return nil, nil, failed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnownConnections || p.known == nil {
		p.known = map[any]any{}
	}
	p.engine, p.multi, p.known[l.driverConn] = kind, l.multi, facts
	return kind, facts, nil
}
