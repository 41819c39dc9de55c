package assent

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
	"strings"
)

// branchConn is the application's view of a branch's connection: a driver between database/sql and the real one. It
// starts the branch with the first statement, sees every error, and knows what is left open.
type branchConn struct{ branch *Branch }

type branchConnector struct{ branch *Branch }

func (c branchConnector) Connect(context.Context) (driver.Conn, error) {
	return &branchConn{c.branch}, nil
}
func (c branchConnector) Driver() driver.Driver { return branchDriver{} }

type branchDriver struct{}

func (branchDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("assent: a branch's connection is opened by its transaction")
}

func (c *branchConn) Close() error { return nil }
func (c *branchConn) Prepare(q string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), q)
}
func (c *branchConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx refuses: the branch is the transaction.
func (c *branchConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return nil, c.branch.mayNotEnd("BEGIN")
}

func (b *Branch) mayNotEnd(what string) *Error {
	return newError(SessionHoldsBranch, what+" inside a branch: its global transaction begins and ends it. Use Savepoints, "+
		"or another connection", map[string]string{"gtrid": b.branch.gtrid, "bqual": b.branch.bqual})
}

// CheckNamedValue is the real driver's. An argument that it does not take is a statement that did not run.
func (c *branchConn) CheckNamedValue(value *driver.NamedValue) error {
	b := c.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.link.use(func(driverConn any) error { return checkValue(driverConn, value) })
	if errors.Is(err, sql.ErrConnDone) {
		return nil // The branch has ended, which the statement itself is told.
	}
	return b.checked(err)
}

// checkValue is what database/sql does with an argument.
func checkValue(real any, value *driver.NamedValue) error {
	err := error(driver.ErrSkip)
	if checker, ok := real.(driver.NamedValueChecker); ok {
		err = checker.CheckNamedValue(value)
	}
	if err == driver.ErrSkip {
		value.Value, err = driver.DefaultParameterConverter.ConvertValue(value.Value)
	}
	return err
}

// checked: with b.mu held.
func (b *Branch) checked(err error) error {
	if err != nil && err != driver.ErrRemoveArgument && b.poison == nil {
		b.poisonWith(newError(DatabaseError, "an argument of a statement cannot be passed: "+err.Error(), nil).because(err))
	}
	return err
}

// Ping asks nobody: it is no statement, and must not start the branch.
func (c *branchConn) Ping(context.Context) error {
	c.branch.mu.Lock()
	defer c.branch.mu.Unlock()
	if refused := c.branch.usable(); refused != nil {
		return refused
	}
	return nil
}

// admit is what comes before every statement. With branch.mu held.
func (c *branchConn) admit(query string) *Error {
	b := c.branch
	if refused := b.usable(); refused != nil {
		return refused
	}
	if what := b.session.refuses(query); what != "" {
		return b.poisonWith(b.mayNotEnd(what))
	}
	return nil
}

// ExecContext runs a statement. If it is the first, the branch's beginning rides along where the driver allows it.
func (c *branchConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	b := c.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	if refused := c.admit(query); refused != nil {
		return nil, refused
	}
	if b.stage == stageIdle && !expectationOf(ctx).exists() && b.session.joins(len(args) > 0) {
		result, failure := b.link.execArgs(ctx, strings.Join(append(b.session.startSQL(), query), ";"), args)
		if failure != errSkipped {
			if why := b.begun(b.session.readStart(failure)); why != nil {
				return nil, why
			}
			return c.executed(ctx, result, failure)
		}
	}
	if why := b.ensureStarted(ctx); why != nil {
		return nil, why
	}
	undo, why := c.savepoint(ctx)
	if why != nil {
		return nil, why
	}
	result, failure := b.link.execArgs(ctx, query, args)
	if failure == errSkipped {
		undo(false)
		return nil, driver.ErrSkip
	}
	undo(failure != nil)
	return c.executed(ctx, result, failure)
}

// executed reads an answer without rows. With branch.mu held.
func (c *branchConn) executed(ctx context.Context, result driver.Result, failure *dbError) (driver.Result, error) {
	if failure != nil {
		return nil, c.branch.failed(ctx, failure)
	}
	if rows, err := result.RowsAffected(); err == nil && rows > 0 {
		c.branch.writes = true
	}
	return result, nil
}

// savepoint stands before a statement whose errors are expected, where an error would fail the whole transaction. The
// answer ends it. With branch.mu held.
func (c *branchConn) savepoint(ctx context.Context) (func(failed bool), *Error) {
	b := c.branch
	if b.session.keepsFailed() || !expectationOf(ctx).exists() {
		return func(bool) {}, nil
	}
	if failure := b.link.exec(ctx, "SAVEPOINT "+postgresSavepoint); failure != nil {
		return nil, b.failed(ctx, failure)
	}
	return func(failed bool) {
		release := []string{"RELEASE SAVEPOINT " + postgresSavepoint}
		if failed { // If that fails, too, the transaction stays failed.
			release = append([]string{"ROLLBACK TO SAVEPOINT " + postgresSavepoint}, release...)
		}
		if failure := b.link.exec(ctx, release...); failure != nil && b.poison == nil {
			b.poisonWith(failure.asError("the savepoint of a statement"))
		}
	}, nil
}

// QueryContext runs a statement with rows.
func (c *branchConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	b := c.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	if refused := c.admit(query); refused != nil {
		return nil, refused
	}
	if why := b.ensureStarted(ctx); why != nil {
		return nil, why
	}
	undo, why := c.savepoint(ctx)
	if why != nil {
		return nil, why
	}
	rows, failure := b.link.queryArgs(ctx, query, args)
	if failure == errSkipped {
		undo(false)
		return nil, driver.ErrSkip
	}
	if failure != nil {
		undo(true)
		return nil, b.failed(ctx, failure)
	}
	return c.track(ctx, rows, undo), nil
}

// track wraps rows. With branch.mu held.
func (c *branchConn) track(ctx context.Context, rows driver.Rows, undo func(bool)) driver.Rows {
	wrapped := &branchRows{Rows: rows, branch: c.branch, ctx: ctx, undo: undo}
	c.branch.rows[wrapped] = true
	return wrapped
}

// PrepareContext prepares a statement at the server, inside the branch.
func (c *branchConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	b := c.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	if refused := c.admit(query); refused != nil {
		return nil, refused
	}
	if why := b.ensureStarted(ctx); why != nil {
		return nil, why
	}
	undo, why := c.savepoint(ctx)
	if why != nil {
		return nil, why
	}
	var stmt driver.Stmt
	err := b.link.use(func(driverConn any) (err error) {
		if preparer, ok := driverConn.(driver.ConnPrepareContext); ok {
			stmt, err = preparer.PrepareContext(ctx, query)
		} else {
			stmt, err = driverConn.(driver.Conn).Prepare(query)
		}
		return err
	})
	undo(err != nil)
	if err != nil {
		return nil, b.failed(ctx, b.link.note(readError(err)))
	}
	wrapped := &branchStmt{Stmt: stmt, conn: c}
	b.stmts[wrapped] = true
	return wrapped, nil
}

// branchStmt is a prepared statement of a branch.
type branchStmt struct {
	driver.Stmt
	conn *branchConn
}

// Close does nothing after the end of the branch, which has closed it.
func (s *branchStmt) Close() error {
	b := s.conn.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stmts[s] {
		return nil
	}
	delete(b.stmts, s)
	return s.Stmt.Close()
}

// NumInput leaves it to the real driver to count: what it refuses poisons the branch, what database/sql refuses does not.
func (s *branchStmt) NumInput() int { return -1 }

// CheckNamedValue is the real statement's, or its connection's.
func (s *branchStmt) CheckNamedValue(value *driver.NamedValue) error {
	if _, ok := s.Stmt.(driver.NamedValueChecker); ok {
		s.conn.branch.mu.Lock()
		defer s.conn.branch.mu.Unlock()
		return s.conn.branch.checked(checkValue(s.Stmt, value))
	}
	return s.conn.CheckNamedValue(value)
}

// ExecContext runs it without rows.
func (s *branchStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	b := s.conn.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	undo, refused := s.admit(ctx)
	if refused != nil {
		return nil, refused
	}
	execer, ok := s.Stmt.(driver.StmtExecContext)
	if !ok {
		return nil, b.failed(ctx, &dbError{message: "the driver's statements take no context"})
	}
	result, err := execer.ExecContext(ctx, args)
	undo(err != nil)
	return s.conn.executed(ctx, result, b.link.note(readError(err)))
}

// QueryContext runs it with rows.
func (s *branchStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	b := s.conn.branch
	b.mu.Lock()
	defer b.mu.Unlock()
	undo, refused := s.admit(ctx)
	if refused != nil {
		return nil, refused
	}
	queryer, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, b.failed(ctx, &dbError{message: "the driver's statements take no context"})
	}
	rows, err := queryer.QueryContext(ctx, args)
	if err != nil {
		undo(true)
		return nil, b.failed(ctx, b.link.note(readError(err)))
	}
	return s.conn.track(ctx, rows, undo), nil
}

// admit: with branch.mu held.
func (s *branchStmt) admit(ctx context.Context) (func(bool), *Error) {
	if refused := s.conn.branch.usable(); refused != nil {
		return nil, refused
	}
	return s.conn.savepoint(ctx)
}

// branchRows are rows of a branch: an error in the middle of them poisons it, too.
type branchRows struct {
	driver.Rows
	branch *Branch
	ctx    context.Context
	undo   func(failed bool)
	failed bool
	ended  bool
}

// Next takes the next row.
func (r *branchRows) Next(values []driver.Value) error {
	r.branch.mu.Lock()
	defer r.branch.mu.Unlock()
	if r.ended {
		return io.EOF
	}
	return r.note(r.Rows.Next(values))
}

// note: with branch.mu held.
func (r *branchRows) note(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	r.failed = true
	return r.branch.failed(r.ctx, r.branch.link.note(readError(err)))
}

// Close does nothing after the end of the branch, which has closed them.
func (r *branchRows) Close() error {
	r.branch.mu.Lock()
	defer r.branch.mu.Unlock()
	if !r.branch.rows[r] {
		return nil
	}
	delete(r.branch.rows, r)
	return r.end()
}

// end: with branch.mu held, once.
func (r *branchRows) end() error {
	r.ended = true
	err := r.Rows.Close() // Reads what is left, which may end in an error.
	if err != nil {
		err = r.note(err)
	}
	r.undo(r.failed)
	return err
}

// HasNextResultSet and what follows pass on what the real rows can do.
func (r *branchRows) HasNextResultSet() bool {
	rows, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && !r.ended && rows.HasNextResultSet()
}

// NextResultSet goes on to the next answer of several statements.
func (r *branchRows) NextResultSet() error {
	r.branch.mu.Lock()
	defer r.branch.mu.Unlock()
	rows, ok := r.Rows.(driver.RowsNextResultSet)
	if !ok || r.ended {
		return io.EOF
	}
	return r.note(rows.NextResultSet())
}

// ColumnTypeScanType is the real rows', or any.
func (r *branchRows) ColumnTypeScanType(index int) reflect.Type {
	if rows, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return rows.ColumnTypeScanType(index)
	}
	return reflect.TypeOf(new(any)).Elem()
}

// ColumnTypeDatabaseTypeName is the real rows', or empty.
func (r *branchRows) ColumnTypeDatabaseTypeName(index int) string {
	if rows, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return rows.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

// ColumnTypeLength is the real rows', or unknown.
func (r *branchRows) ColumnTypeLength(index int) (int64, bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return rows.ColumnTypeLength(index)
	}
	return 0, false
}

// ColumnTypeNullable is the real rows', or unknown.
func (r *branchRows) ColumnTypeNullable(index int) (nullable, ok bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return rows.ColumnTypeNullable(index)
	}
	return false, false
}

// ColumnTypePrecisionScale is the real rows', or unknown.
func (r *branchRows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return rows.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}
