package assent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "assent.example/assent/assentv1"
)

// mysqlEngine speaks to MariaDB and MySQL.
type mysqlEngine struct{}

// mysqlFacts are what a server said of itself and of one connection.
type mysqlFacts struct {
	server       string // hostname:port
	connectionID int64
	startTime    time.Time
	knowsDetach  bool // The server has the variable xa_detach_on_prepare.
	detaches     bool
	onePhase     bool // commitsInOnePhase.
}

// Where the two servers differ: MariaDB alone runs what is in /*M! */ and passes over MySQL's version comments. A MySQL
// that does not know xa_detach_on_prepare says NULL of it.
// In one phase (the fourth column: not) a branch may be committed only where the server has nothing to agree on: neither with a
// binary log nor between two engines that can prepare.
const mysqlIdentitySQL = "SELECT CONCAT(@@hostname, ':', @@port), CONNECTION_ID(), UNIX_TIMESTAMP() - VARIABLE_VALUE," +
	"/*M! @@log_bin OR EXISTS (SELECT * FROM information_schema.ENGINES WHERE XA = 'YES' AND ENGINE <> 'InnoDB')*/" +
	"/*!80000 1*/" +
	"/*!80000 , (SELECT VARIABLE_VALUE FROM performance_schema.session_variables" +
	" WHERE VARIABLE_NAME = 'xa_detach_on_prepare')*/" +
	" FROM /*M! information_schema.GLOBAL_STATUS*/ /*!80000 performance_schema.global_status*/" +
	" WHERE VARIABLE_NAME = 'UPTIME'"

func (mysqlEngine) takesSeveral(ctx context.Context, l *link) (bool, *dbError) {
	_, failed := l.execArgs(ctx, "DO 0;DO 0", nil)
	if failed != nil && failed.code == erParseError {
		return false, nil
	}
	return failed == nil, failed
}

func (mysqlEngine) learn(ctx context.Context, l *link) (any, *dbError) {
	row, failed := l.queryRow(ctx, mysqlIdentitySQL)
	if failed != nil {
		return nil, failed
	}
	facts := &mysqlFacts{server: row[0]}
	facts.connectionID, _ = strconv.ParseInt(row[1], 10, 64)
	if seconds, err := strconv.ParseFloat(row[2], 64); err == nil {
		facts.startTime = time.Unix(int64(seconds), 0)
	}
	facts.onePhase = row[3] == "0"
	if len(row) > 4 && row[4] != "" {
		facts.knowsDetach, facts.detaches = true, row[4] == "ON"
	}
	return facts, nil
}

func (mysqlEngine) session(l *link, facts any, branch xid, witness witnessTable) session {
	return &mysqlSession{link: l, facts: facts.(*mysqlFacts), branch: branch, literal: branch.sql(), witness: witness,
		mark: newMark(), detached: facts.(*mysqlFacts).detaches}
}

// mysqlSession is a session of MariaDB or MySQL.
//
// The mark is a user variable of the session with a number of its own for every branch. What gives a branch up without a
// word (a reset, another user, a proxy that hands the statements to another connection) forgets it. Whoever then sends XA
// COMMIT for a prepared branch is told OK by MariaDB, and nothing is done: so the mark is asked for before, in the same
// message where the connection takes several statements. PREPARE asks within the statement that leaves the witness.
type mysqlSession struct {
	link     *link
	facts    *mysqlFacts
	branch   xid
	literal  string // branch in SQL.
	witness  witnessTable
	mark     uint64
	detached bool // detaches().
	prepared bool
	reset    bool
	outside  bool
}

var lastMark = func() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) >> 2 // Far from those of other processes; fits BIGINT.
}()

func newMark() uint64 { return atomic.AddUint64(&lastMark, 1) }

func markSQL(mark uint64) string { return "SET @assent_branch=" + strconv.FormatUint(mark, 10) }

// markCheckSQL is allowed in every state of a branch.
func markCheckSQL(mark uint64) string {
	return "SET @assent_branch=" + markedSQL(mark, strconv.FormatUint(mark, 10))
}

// markedSQL is an expression: the value where the mark is this one; elsewhere it fails with erDataOutOfRange.
func markedSQL(mark uint64, value string) string {
	return "IF(@assent_branch=" + strconv.FormatUint(mark, 10) + "," + value + ",~0+1)"
}

func (s *mysqlSession) describe() *v1.Session {
	described := &v1.Session{Server: s.facts.server, ConnectionId: s.facts.connectionID,
		ServerStartTime: timestamppb.New(s.facts.startTime)}
	described.Detached = s.prepared && s.detached
	return described
}

func (s *mysqlSession) detaches() bool   { return s.detached }
func (s *mysqlSession) wasReset() bool   { return s.reset }
func (s *mysqlSession) ranOutside() bool { return s.outside }

func (s *mysqlSession) joins(bool) bool       { return s.link.multi } // Arguments: as the driver decides.
func (s *mysqlSession) refuses(string) string { return "" }           // The server itself does: 1399.
func (s *mysqlSession) keepsFailed() bool     { return true }

func (s *mysqlSession) startSQL() []string {
	return []string{markSQL(s.mark), "XA START " + s.literal}
}

func (s *mysqlSession) start(ctx context.Context) xaResult {
	failure := s.link.exec(ctx, s.startSQL()...)
	if failure == nil {
		return xaResult{outcome: xaOK}
	}
	return xaResult{outcome: mysqlOutcome(verbStart, failure.code), failure: failure, unsent: failure.unsent}
}

func (s *mysqlSession) readStart(failure *dbError) xaResult {
	if failure == nil {
		return xaResult{outcome: xaOK}
	}
	switch failure.code {
	// Only XA START itself answers these. (1399 may also be a first statement's, and a rollback then settles it.)
	case 1397, 1398, 1400, 1440, 1235:
		return xaResult{outcome: mysqlOutcome(verbStart, failure.code), failure: failure, unsent: failure.unsent}
	}
	if failure.lost() {
		return xaResult{outcome: xaConnectionLost, failure: failure, unsent: failure.unsent}
	}
	return xaResult{outcome: xaOK}
}

// mayHaveWritten: the server's reports on the transaction do not reach users of Go's driver, so every branch that has run
// a statement counts as one that has written. It is safe: the witness row makes it one.
func (s *mysqlSession) mayHaveWritten(context.Context, bool) (bool, *dbError) { return true, nil }

// guarded are the statements of a verb behind the question whether this is still the branch's session. A branch that
// PREPARE has let go of is as good on any session.
func (s *mysqlSession) guarded(statements ...string) []string {
	if s.prepared && s.detached {
		return statements
	}
	return append([]string{markCheckSQL(s.mark)}, statements...)
}

// verb runs a verb's statements and reads the answer. Of all that they may be only the question for the mark answers
// erDataOutOfRange.
func (s *mysqlSession) verb(ctx context.Context, verb xaVerb, statements ...string) xaResult {
	if s.reset {
		return xaResult{outcome: xaSessionReset, failure: s.resetFailure(), unsent: true}
	}
	failure := s.link.exec(ctx, statements...)
	if failure == nil {
		return xaResult{outcome: xaOK}
	}
	if failure.code == erDataOutOfRange {
		// Statements may have run since; a prepared branch refuses them.
		s.reset, s.outside, s.link.lost = true, !s.prepared, true
		failure = s.resetFailure()
	}
	return xaResult{outcome: mysqlOutcome(verb, failure.code), failure: failure, unsent: failure.unsent}
}

func (s *mysqlSession) resetFailure() *dbError {
	return resetError("the connection was reset or given to another user while it held a branch; whoever lends the " +
		"connection must not do that before the global transaction has ended. It is closed")
}

func (s *mysqlSession) prepare(ctx context.Context) xaResult {
	if s.facts.knowsDetach && !s.link.lost {
		// The application may have changed it since the last look; inside a branch it cannot be changed.
		row, failure := s.link.queryRow(ctx, fmt.Sprintf(
			"SELECT IF(@assent_branch=%d,@@session.xa_detach_on_prepare,NULL)", s.mark))
		if failure == nil && row[0] != "" {
			s.detached = row[0] == "1"
		}
	}
	question := markCheckSQL(s.mark)
	if s.witness.exists() {
		question = s.witness.insertSQL(s.branch, s.marked)
	}
	result := s.verb(ctx, verbPrepare, question, "XA END "+s.literal, "XA PREPARE "+s.literal)
	s.prepared = result.outcome == xaOK
	return result
}

func (s *mysqlSession) commitsInOnePhase() bool { return s.facts.onePhase }

func (s *mysqlSession) commitOnePhase(ctx context.Context) xaResult {
	before := []string{s.witness.insertSQL(witnessOf(s.branch), s.marked), "XA END " + s.literal}
	commit := "XA COMMIT " + s.literal + " ONE PHASE"
	if s.link.multi {
		return s.verb(ctx, verbCommitOnePhase, append(before, commit)...)
	}
	if result := s.verb(ctx, verbCommitOnePhase, before...); result.outcome != xaOK {
		result.unsent = true
		return result
	}
	return s.verb(ctx, verbCommitOnePhase, commit)
}

// marked is an expression of the value that fails on any other session.
func (s *mysqlSession) marked(value string) string { return markedSQL(s.mark, value) }

func (s *mysqlSession) endReadOnly(ctx context.Context) xaResult { return s.rollback(ctx) }

func (s *mysqlSession) commit(ctx context.Context) xaResult {
	return s.verb(ctx, verbCommit, s.guarded("XA COMMIT "+s.literal)...)
}

func (s *mysqlSession) rollback(ctx context.Context) xaResult {
	if s.prepared {
		return s.verb(ctx, verbRollback, s.guarded("XA ROLLBACK "+s.literal)...)
	}
	result := s.verb(ctx, verbRollback, s.guarded("XA END "+s.literal, "XA ROLLBACK "+s.literal)...)
	if result.outcome == xaOK || s.link.lost {
		return result
	}
	// The branch may be ended already, or be a deadlock's victim, which MySQL wants ended first, and answers even that
	// with an error.
	if result = s.verb(ctx, verbRollback, markCheckSQL(s.mark)); s.link.lost {
		return result
	}
	_ = s.verb(ctx, verbEnd, "XA END "+s.literal)
	return s.verb(ctx, verbRollback, "XA ROLLBACK "+s.literal)
}
