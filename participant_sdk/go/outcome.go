package assent

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// What a database's answer to an XA verb proves: the same words, and the same tables, as resource_manager/xa_outcome.h.
type xaOutcome string

const (
	xaOK             xaOutcome = "OK"
	xaRolledBack     xaOutcome = "ROLLED_BACK"
	xaUnknownXid     xaOutcome = "UNKNOWN_XID"
	xaDuplicateXid   xaOutcome = "DUPLICATE_XID"
	xaWrongState     xaOutcome = "WRONG_STATE"
	xaOutside        xaOutcome = "OUTSIDE"
	xaInvalid        xaOutcome = "INVALID"
	xaNotSupported   xaOutcome = "NOT_SUPPORTED"
	xaRetryLater     xaOutcome = "RETRY_LATER"
	xaSessionReset   xaOutcome = "SESSION_RESET"
	xaConnectionLost xaOutcome = "CONNECTION_LOST"
	xaError          xaOutcome = "ERROR"
)

type xaVerb string

const (
	verbStart   xaVerb = "START"
	verbEnd     xaVerb = "END"
	verbPrepare xaVerb = "PREPARE"
	verbCommit  xaVerb = "COMMIT"
	// Of a branch that is not prepared.
	verbCommitOnePhase xaVerb = "COMMIT ONE PHASE"
	verbRollback       xaVerb = "ROLLBACK"
)

func (v xaVerb) finishes() bool { return v == verbCommit || v == verbRollback }

const (
	sessionResetCode   = -1 // The connection is not the session any more that the branch was started on.
	connectionLostCode = -2 // The connection is lost, and nothing has a number that says so.

	erLockDeadlock       = 1213
	erDBAccessDenied     = 1044
	erNoSuchDatabase     = 1049
	erTableAccessDenied  = 1142
	erColumnAccessDenied = 1143
	erNoSuchTable        = 1146
	erDataOutOfRange     = 1690 // What the session's mark answers on any other session.
	erParseError         = 1064
)

// dbError is what a database, or its driver, answered when it refused. The message may quote row contents.
type dbError struct {
	code     int    // MariaDB's and MySQL's number, or one of the two above; 0: PostgreSQL's, which has a SQLSTATE.
	sqlstate string // Five characters, or empty.
	message  string
	unsent   bool  // The server certainly saw nothing of the statement.
	cause    error // As the driver gave it.
}

// readError reads a driver's error. Nil for nil. No driver is imported for it, and any fork of one is read as well.
//
// An error that is not the server's own answer leaves open what the server did: it counts as a lost connection.
func readError(err error) *dbError {
	if err == nil {
		return nil
	}
	out := &dbError{message: err.Error(), cause: err}
	if number, sqlstate, message, ok := mysqlAnswer(err); ok {
		out.code, out.sqlstate, out.message = number, sqlstate, message
		return out
	}
	var answer interface{ SQLState() string } // pgx's and lib/pq's.
	if errors.As(err, &answer) {
		if out.sqlstate = answer.SQLState(); endsSession(out.sqlstate) {
			out.code = connectionLostCode
		}
		return out
	}
	out.code = connectionLostCode
	var retryable interface{ SafeToRetry() bool } // pgx's.
	out.unsent = errors.Is(err, driver.ErrBadConn) || (errors.As(err, &retryable) && retryable.SafeToRetry())
	return out
}

// endsSession tells PostgreSQL's farewells: shutdown, crash, a killed or idle session.
func endsSession(sqlstate string) bool {
	switch sqlstate {
	case "57P01", "57P02", "57P03", "57P05", "25P03", "25P04":
		return true
	}
	return strings.HasPrefix(sqlstate, "08")
}

// mysqlAnswer finds a *mysql.MySQLError by its shape.
func mysqlAnswer(err error) (number int, sqlstate, message string, ok bool) {
	for ; err != nil; err = errors.Unwrap(err) {
		value := reflect.ValueOf(err)
		if value.Kind() != reflect.Ptr || value.IsNil() || value.Elem().Kind() != reflect.Struct ||
			value.Elem().Type().Name() != "MySQLError" {
			continue
		}
		field := value.Elem().FieldByName("Number")
		if field.Kind() != reflect.Uint16 {
			continue
		}
		if state := value.Elem().FieldByName("SQLState"); state.Kind() == reflect.Array && state.Type().Elem().Kind() == reflect.Uint8 {
			bytes := make([]byte, state.Len())
			reflect.Copy(reflect.ValueOf(bytes), state)
			sqlstate = strings.TrimRight(string(bytes), "\x00")
		}
		if text := value.Elem().FieldByName("Message"); text.Kind() == reflect.String {
			message = text.String()
		}
		return int(field.Uint()), sqlstate, message, true
	}
	return 0, "", "", false
}

// isConnectionLost tells the errors after which a connection cannot be used any more.
func isConnectionLost(code int) bool {
	switch {
	case code == connectionLostCode, code == 1053, code == 1184, code == 1927:
		return true
	}
	return (code >= 1152 && code <= 1161) || (code >= 2000 && code <= 2999) || (code >= 5000 && code <= 5099)
}

func (e *dbError) lost() bool { return e != nil && isConnectionLost(e.code) }

func (e *dbError) describe(doing string) string {
	switch {
	case e.code > 0:
		return fmt.Sprintf("%s: the database answers %d (%s): %s", doing, e.code, e.sqlstate, e.message)
	case e.sqlstate == "":
		return doing + ": " + e.message
	}
	return fmt.Sprintf("%s: the database answers %s: %s", doing, e.sqlstate, e.message)
}

func (e *dbError) metadata() map[string]string {
	metadata := map[string]string{}
	if e.code > 0 {
		metadata["error_code"] = strconv.Itoa(e.code)
	}
	if e.sqlstate != "" {
		metadata["sqlstate"] = e.sqlstate
	}
	return metadata
}

// hint says what to do about errors that people meet when they are new to branches.
func (e *dbError) hint() string {
	switch {
	case e.code == 1399:
		return ". A branch refuses BEGIN, COMMIT, ROLLBACK and every statement with an implicit commit (DDL): leave it out of the branch"
	case e.sqlstate == "0A000":
		return ". Leave it out of the branch, or do it on another connection"
	case errors.Is(e.cause, context.Canceled), errors.Is(e.cause, context.DeadlineExceeded):
		return ". The driver has closed the connection, and the database rolls the branch back"
	}
	return ""
}

// asError is the error of a statement: DATABASE_UNREACHABLE, SESSION_RESET or DATABASE_ERROR. Nil for nil.
func (e *dbError) asError(doing string) *Error {
	if e == nil {
		return nil
	}
	reason := DatabaseError
	switch {
	case e.lost():
		reason = DatabaseUnreachable
	case e.code == sessionResetCode:
		reason = SessionReset
	}
	out := newError(reason, e.describe(doing)+e.hint(), e.metadata())
	if !errors.Is(e.cause, driver.ErrBadConn) { // database/sql would take it for its own, and repeat.
		out.cause = e.cause
	}
	return out
}

// xaErrorOf is the error of a verb, with the more precise reasons where there are some. Nil for xaOK.
func xaErrorOf(verb xaVerb, outcome xaOutcome, e *dbError) *Error {
	if outcome == xaOK {
		return nil
	}
	doing := "XA " + string(verb)
	var out *Error
	switch outcome {
	case xaOutside:
		out = newError(SessionInTransaction, e.describe(doing)+". The session has a transaction or table locks of its "+
			"own: commit, roll back or UNLOCK TABLES before a branch starts on it, or use another session", e.metadata())
	case xaNotSupported:
		out = newError(XANotSupported, e.describe(doing)+". This server cannot run XA branches (Galera cannot)", e.metadata())
	case xaSessionReset:
		out = newError(SessionReset, e.describe(doing), e.metadata())
	case xaConnectionLost:
		out = newError(DatabaseUnreachable, e.describe(doing)+e.hint(), e.metadata())
	default:
		out = newError(DatabaseError, e.describe(doing)+e.hint(), e.metadata())
	}
	out.Metadata["outcome"] = string(outcome)
	if !errors.Is(e.cause, driver.ErrBadConn) {
		out.cause = e.cause
	}
	return out
}

// mysqlOutcome is what MariaDB's or MySQL's number answers to a verb; 0 is xaOK.
func mysqlOutcome(verb xaVerb, code int) xaOutcome {
	switch {
	case code == 0:
		return xaOK
	case isConnectionLost(code):
		return xaConnectionLost
	case code == sessionResetCode:
		return xaSessionReset
	}
	switch code {
	case 1402, 1613, 1614:
		if verb == verbEnd { // MySQL's word for what MariaDB calls a wrong state: the branch is there, to roll back.
			return xaWrongState
		}
		return xaRolledBack
	case 1397:
		return xaUnknownXid
	case 1440:
		return xaDuplicateXid
	case 1399:
		return xaWrongState
	case 1400:
		return xaOutside
	case 1398, erParseError:
		return xaInvalid
	case 1235:
		return xaNotSupported
	case 1290:
		if verb.finishes() {
			return xaRetryLater
		}
	case 1205, 1317, 1969: // Waiting for the commit lock (a backup) ended without it.
		if verb.finishes() {
			return xaRetryLater
		}
		if verb == verbPrepare || verb == verbCommitOnePhase {
			return xaRolledBack
		}
	}
	return xaError
}

// postgresOutcome is the same for PostgreSQL.
func postgresOutcome(verb xaVerb, e *dbError) xaOutcome {
	switch {
	case e == nil:
		return xaOK
	case e.lost():
		return xaConnectionLost
	case e.code == sessionResetCode:
		return xaSessionReset
	case e.sqlstate == "25P02": // The transaction has failed before.
		return xaWrongState
	case verb == verbPrepare && e.sqlstate == "42710":
		return xaDuplicateXid
	case verb == verbPrepare: // Whatever PREPARE TRANSACTION fails for, the transaction is rolled back.
		return xaRolledBack
	case !verb.finishes():
		return xaError
	}
	switch e.sqlstate {
	case "42704":
		return xaUnknownXid
	case "25001":
		return xaOutside
	case "55000", "25006", "57014", "55P03":
		return xaRetryLater
	}
	if strings.HasPrefix(e.sqlstate, "53") {
		return xaRetryLater
	}
	return xaError
}

// provesRolledBack is what a ROLLBACK's answer proves on the branch's own session.
func provesRolledBack(outcome xaOutcome, detaches, prepareWasSent bool) bool {
	switch outcome {
	case xaOK, xaRolledBack:
		return true
	case xaUnknownXid: // Once PREPARE has let go of it anybody may have finished it, and also have committed it.
		return !(prepareWasSent && detaches)
	case xaConnectionLost: // The server rolls back what was never prepared; nobody can commit it.
		return !prepareWasSent
	}
	return false
}

type finishResult string

const (
	finishCommitted  finishResult = "COMMITTED"
	finishRolledBack finishResult = "ROLLED_BACK"
	finishRepeat     finishResult = "REPEAT"
	finishElsewhere  finishResult = "ELSEWHERE"
	finishInDoubt    finishResult = "IN_DOUBT"
)

// finishOf is what the answer to COMMIT or ROLLBACK on the session that prepared says about the branch.
func finishOf(commit bool, outcome xaOutcome, detaches bool) finishResult {
	switch {
	case commit && outcome == xaOK:
		return finishCommitted
	case commit && outcome == xaRolledBack: // A branch that wrote answers so only if it was rolled back.
		return finishRolledBack
	case !commit && provesRolledBack(outcome, detaches, true):
		return finishRolledBack
	case outcome == xaRetryLater:
		return finishRepeat
	case outcome == xaUnknownXid && detaches:
		return finishElsewhere
	}
	return finishInDoubt
}
