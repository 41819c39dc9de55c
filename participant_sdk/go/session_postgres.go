package assent

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "assent.example/assent/assentv1"
)

// postgresEngine speaks to PostgreSQL.
type postgresEngine struct{}

// postgresFacts are what a server said of itself and of one connection.
type postgresFacts struct {
	server                  string // system_identifier/database
	pid                     int64
	serverStart             time.Time
	sessionStart            time.Time
	maxPreparedTransactions int64
	timeline                int64 // 0: of a server in recovery.
}

// Parameters that no server has: to ask for one is an error that nothing else raises.
const (
	postgresOtherBranch  = "assent.not_in_this_branch"
	postgresInProgress   = "assent.transaction_in_progress"
	postgresSavepoint    = "assent_keep"
	postgresBranchMarker = "assent.branch" // Set with SET LOCAL, so it ends with the transaction.
)

const postgresTimelineSQL = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE ('x'||pg_catalog.substr(" +
	"pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()),1,8))::bit(32)::int8 END::text"

const postgresFactsSQL = "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text," +
	"current_database()::text,(extract(epoch from pg_postmaster_start_time())*1000000)::int8::text," +
	"pg_backend_pid()::text,(SELECT (extract(epoch from backend_start)*1000000)::int8::text FROM " +
	"pg_stat_get_activity(pg_backend_pid())),current_setting('max_prepared_transactions'),(" + postgresTimelineSQL + ")"

// postgresHasWrittenSQL is the transaction's id, which whatever writes or locks rows gets; or not empty if it has written a
// foreign table, for which the other server's transaction gets one. (Nobody else's locks are looked at where there is no
// such table.)
const postgresHasWrittenSQL = "COALESCE(pg_catalog.pg_current_xact_id_if_assigned()::text," +
	"CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_foreign_table) THEN " +
	"(SELECT 'foreign' FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid=l.relation " +
	"WHERE l.pid=pg_catalog.pg_backend_pid() AND l.mode='RowExclusiveLock' AND c.relkind='f' LIMIT 1) END,'')"

// postgresGuardSQL fails on any other transaction than the branch's; else it answers postgresHasWrittenSQL. A constant, so
// that drivers that keep prepared statements prepare it once.
const postgresGuardSQL = "SELECT CASE WHEN pg_catalog.pg_backend_pid()=$1::int8 AND pg_catalog.current_setting('" +
	postgresBranchMarker + "',true)=$2::text THEN " + postgresHasWrittenSQL + " " +
	"ELSE pg_catalog.current_setting('" + postgresOtherBranch + "') END"

// takesSeveral: drivers send what has no arguments by the simple protocol, which does.
func (postgresEngine) takesSeveral(context.Context, *link) (bool, *dbError) { return true, nil }

func (postgresEngine) learn(ctx context.Context, l *link) (any, *dbError) {
	row, failed := l.queryRow(ctx, postgresFactsSQL)
	if failed != nil {
		return nil, failed
	}
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	return &postgresFacts{server: row[0] + "/" + row[1], serverStart: time.UnixMicro(number(row[2])), pid: number(row[3]),
		sessionStart: time.UnixMicro(number(row[4])), maxPreparedTransactions: number(row[5]), timeline: number(row[6])}, nil
}

func (postgresEngine) session(l *link, facts any, branch xid, _ witnessTable) session {
	return &postgresSession{link: l, facts: facts.(*postgresFacts), branch: branch, timeline: facts.(*postgresFacts).timeline}
}

// postgresSession is a session of PostgreSQL. A branch is an ordinary transaction until PREPARE TRANSACTION, which lets go
// of it; how it ended can be asked for afterwards by its id, so it leaves no witness.
type postgresSession struct {
	link          *link
	facts         *postgresFacts
	branch        xid
	timeline      int64
	prepared      bool
	over          bool // The transaction has ended: by the failure of PREPARE.
	transactionID int64
	reset         bool
}

func (s *postgresSession) describe() *v1.Session {
	described := &v1.Session{Server: s.facts.server, ConnectionId: s.facts.pid,
		ServerStartTime: timestamppb.New(s.facts.serverStart), SessionStartTime: timestamppb.New(s.facts.sessionStart)}
	if s.prepared {
		described.Detached, described.TransactionId, described.Timeline = true, s.transactionID, s.timeline
	}
	return described
}

func (s *postgresSession) detaches() bool   { return true }
func (s *postgresSession) wasReset() bool   { return s.reset }
func (s *postgresSession) ranOutside() bool { return s.reset }

func (s *postgresSession) joins(withArgs bool) bool {
	return !withArgs && s.facts.maxPreparedTransactions > 0
}

func (s *postgresSession) keepsFailed() bool { return false }

// refuses what would end the transaction beside its participant. PostgreSQL itself would do it.
func (s *postgresSession) refuses(statement string) string {
	words := firstWords(statement, 3)
	if len(words) == 0 {
		return ""
	}
	switch words[0] {
	case "COMMIT", "END", "ABORT", "BEGIN":
		return words[0]
	case "START", "PREPARE":
		if len(words) > 1 && words[1] == "TRANSACTION" {
			return words[0] + " TRANSACTION"
		}
	case "ROLLBACK":
		for _, word := range words[1:] {
			if word == "TO" {
				return ""
			}
		}
		return words[0]
	}
	return ""
}

// firstWords answers the first words of a statement in upper case, without comments.
func firstWords(statement string, count int) []string {
	var words []string
	for len(words) < count {
		statement = strings.TrimLeft(statement, " \t\r\n\f\v;(")
		switch {
		case strings.HasPrefix(statement, "--"):
			_, statement, _ = strings.Cut(statement, "\n")
			continue
		case strings.HasPrefix(statement, "/*"):
			_, statement, _ = strings.Cut(statement[2:], "*/")
			continue
		}
		end := strings.IndexFunc(statement, func(c rune) bool {
			return !(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		})
		if end < 0 {
			end = len(statement)
		}
		if end == 0 {
			break
		}
		words = append(words, strings.ToUpper(statement[:end]))
		statement = statement[end:]
	}
	return words
}

func (s *postgresSession) startSQL() []string {
	// Only in a transaction that begins with this very message are both times the same.
	return []string{"BEGIN", fmt.Sprintf("SELECT CASE WHEN pg_catalog.pg_backend_pid()<>%d THEN pg_catalog.current_setting('%s') "+
		"WHEN pg_catalog.transaction_timestamp()<>pg_catalog.statement_timestamp() THEN pg_catalog.current_setting('%s') "+
		"ELSE pg_catalog.set_config('%s','%s',true) END,pg_catalog.pg_advisory_xact_lock_shared(%d,%d)",
		s.facts.pid, postgresOtherBranch, postgresInProgress, postgresBranchMarker, s.branch.gid(), FormatID,
		s.branch.advisoryLock())}
}

func (s *postgresSession) start(ctx context.Context) xaResult {
	if s.facts.maxPreparedTransactions == 0 {
		return xaResult{outcome: xaNotSupported, unsent: true, failure: &dbError{sqlstate: "55000",
			message: "prepared transactions are disabled: set max_prepared_transactions (to max_connections or more) in " +
				"postgresql.conf and restart the server"}}
	}
	failure := s.link.exec(ctx, s.startSQL()...)
	result := s.readStart(failure)
	if failure != nil && result.outcome == xaOK { // Not a first statement's: there is none.
		s.over, s.link.lost = true, true
		return xaResult{outcome: postgresOutcome(verbStart, failure), failure: failure}
	}
	return result
}

func (s *postgresSession) readStart(failure *dbError) xaResult {
	switch {
	case failure == nil:
		return xaResult{outcome: xaOK}
	case failure.lost():
		return xaResult{outcome: xaConnectionLost, failure: failure, unsent: failure.unsent}
	case isPostgresRefusal(failure, postgresInProgress):
		// Somebody has left it in its pool with a transaction, which this has just ended; it is not used again.
		s.over, s.link.lost = true, true
		return xaResult{outcome: xaOutside, failure: &dbError{sqlstate: "25001", message: "there is a transaction in progress"}}
	case isPostgresRefusal(failure, postgresOtherBranch):
		s.over, s.link.lost = true, true
		return xaResult{outcome: xaSessionReset, failure: resetError("the connection leads to another server process than " +
			"before: something hands its statements out to several (pgbouncer with pool_mode transaction or statement). Use " +
			"session pooling, or connect to the server itself")}
	}
	return xaResult{outcome: xaOK} // It is the first statement's.
}

func isPostgresRefusal(failure *dbError, parameter string) bool {
	return failure != nil && failure.sqlstate == "42704" && strings.Contains(failure.message, parameter)
}

// guard asks whether this is still the branch's transaction, and for its id ("": it has none, so it has written nothing).
func (s *postgresSession) guard(ctx context.Context) (string, *dbError) {
	if s.reset {
		return "", s.resetFailure()
	}
	row, failure := s.link.queryRow(ctx, postgresGuardSQL, s.facts.pid, s.branch.gid())
	if isPostgresRefusal(failure, postgresOtherBranch) {
		s.reset, s.link.lost = true, true
		return "", s.resetFailure()
	}
	if failure != nil {
		return "", failure
	}
	return row[0], nil
}

func (s *postgresSession) resetFailure() *dbError {
	return resetError("the transaction of the branch was ended beside it, by COMMIT or ROLLBACK in a statement or " +
		"by whoever lends the connection. It is closed")
}

func (s *postgresSession) mayHaveWritten(ctx context.Context, _ bool) (bool, *dbError) {
	id, failure := s.guard(ctx)
	s.transactionID, _ = strconv.ParseInt(id, 10, 64)
	return failure != nil || id != "", failure
}

// prepare comes right after mayHaveWritten, which has seen that this is the branch's transaction and that it has not
// failed (PREPARE TRANSACTION of a failed one would be answered with success).
func (s *postgresSession) prepare(ctx context.Context) xaResult {
	if s.timeline == 0 { // The session is of a standby's time.
		row, failure := s.link.queryRow(ctx, postgresTimelineSQL)
		if failure != nil {
			return s.prepareFailed(failure)
		}
		s.timeline, _ = strconv.ParseInt(row[0], 10, 64)
	}
	failure := s.link.exec(ctx, "PREPARE TRANSACTION '"+s.branch.gid()+"'")
	if failure == nil {
		s.prepared = true
		return xaResult{outcome: xaOK}
	}
	return s.prepareFailed(failure)
}

func (s *postgresSession) prepareFailed(failure *dbError) xaResult {
	outcome := postgresOutcome(verbPrepare, failure)
	s.over = outcome == xaRolledBack || outcome == xaDuplicateXid
	if failure.sqlstate == "53200" && strings.Contains(failure.message, "prepared transactions") {
		failure.message += ": raise max_prepared_transactions (with max_connections it is usually safe) and restart the server"
	}
	return xaResult{outcome: outcome, failure: failure, unsent: failure.unsent}
}

func (s *postgresSession) verb(ctx context.Context, verb xaVerb, statement string) xaResult {
	failure := s.link.exec(ctx, statement)
	result := xaResult{outcome: postgresOutcome(verb, failure), failure: failure}
	if failure != nil {
		result.unsent = failure.unsent
	}
	return result
}

// endReadOnly: not ROLLBACK, because under SERIALIZABLE what a transaction has read counts for others only if it commits.
func (s *postgresSession) endReadOnly(ctx context.Context) xaResult {
	result := s.verb(ctx, verbEnd, "COMMIT")
	s.over = true // Also if it failed.
	return result
}

func (s *postgresSession) commit(ctx context.Context) xaResult {
	return s.verb(ctx, verbCommit, "COMMIT PREPARED '"+s.branch.gid()+"'")
}

func (s *postgresSession) rollback(ctx context.Context) xaResult {
	switch {
	case s.prepared:
		return s.verb(ctx, verbRollback, "ROLLBACK PREPARED '"+s.branch.gid()+"'")
	case s.reset:
		return xaResult{outcome: xaSessionReset, failure: resetError("the transaction of the branch was ended beside it"), unsent: true}
	case s.over:
		return xaResult{outcome: xaOK}
	}
	if _, failure := s.guard(ctx); s.reset {
		return xaResult{outcome: xaSessionReset, failure: failure}
	}
	return s.verb(ctx, verbRollback, "ROLLBACK")
}
