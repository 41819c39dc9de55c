package assent

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	v1 "assent.example/assent/assentv1"
)

// The vectors that all SDKs share: participant_sdk/vectors.json.
type vectors struct {
	FormatID  int `json:"format_id"`
	MaxID     int `json:"max_id_bytes"`
	Addresses struct{ Valid, Invalid []string }
	Defaults  map[string]any
	Metadata  map[string]string
	IDs       struct {
		Valid   []string
		Invalid []struct{ Hex, Problem string }
	}
	Xids []struct {
		Gtrid, Bqual, SQL, Gid string
		AdvisoryLock           int32  `json:"advisory_lock"`
		WitnessInsert          string `json:"witness_insert"`
	}
	Births []struct {
		Gtrid  string
		UnixMs int64 `json:"unix_ms"`
	}
	WithoutBirth []string `json:"without_birth"`
	Blocks       []struct {
		Prefix, Gtrid string
		Index         int
	}
	WitnessTables struct {
		Valid   []struct{ Name, Quoted string }
		Invalid []string
	} `json:"witness_tables"`
	WitnessRefusals []struct {
		Table string
		Code  int `json:"error_code"`
		Why   string
	} `json:"witness_refusals"`
	Reasons []struct {
		Reason, Code, Retry, Verdict, Outcome string
		RefusedByItself                       bool `json:"refused_by_itself"`
	}
	RetryAdvice []struct {
		Reason, Retry string
		Metadata      map[string]string
	} `json:"retry_advice"`
	Attempts []struct {
		Code, Reason string
		Repeat       bool
		Next         bool `json:"next_instance"`
	}
	Verdicts []struct{ Decision, State, Cause, Verdict, Reason string }
	Waits    []struct {
		Wait, State, Decision, Outcome string
		Over                           bool
	}
	MySQLOutcomes []struct {
		Verb    string
		Code    int
		Outcome string
	} `json:"mysql_outcomes"`
	PostgresOutcomes []struct{ Verb, SQLState, Outcome string } `json:"postgres_outcomes"`
	Proves           []struct {
		Outcome  string
		Sent     bool `json:"prepare_was_sent"`
		Detaches bool
		Proven   bool
	} `json:"proves_rolled_back"`
	Finish []struct {
		Decision, Outcome, Result string
		Detaches                  bool
	}
	Servers []struct {
		Server          string
		Timeline        int64
		SessionServer   string `json:"session_server"`
		SessionTimeline int64  `json:"session_timeline"`
		OK              bool
	}
	Lost []int `json:"mysql_connection_lost"`
	Kept []int `json:"mysql_connection_kept"`
	Mark struct {
		Set, Check string
		Mark       uint64
		Refusal    int `json:"refusal_code"`
	} `json:"mysql_session_mark"`
}

func readVectors(t *testing.T) *vectors {
	t.Helper()
	text, err := os.ReadFile("../vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	out := &vectors{}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func codeOf(t *testing.T, name string) codes.Code {
	t.Helper()
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if codeName(code) == name {
			return code
		}
	}
	t.Fatalf("no code %s", name)
	return 0
}

func TestVectorsOfIDs(t *testing.T) {
	v := readVectors(t)
	if v.FormatID != FormatID || v.MaxID != maxIDBytes || len(v.IDs.Invalid) == 0 || len(v.Xids) == 0 {
		t.Fatal("the vectors are incomplete")
	}
	for _, id := range v.IDs.Valid {
		if validateGtrid(id) != nil || validateBqual(id) != nil {
			t.Errorf("%q is refused", id)
		}
	}
	for _, invalid := range v.IDs.Invalid {
		id, err := hex.DecodeString(invalid.Hex)
		if err != nil {
			t.Fatal(err)
		}
		for reason, validate := range map[Reason]func(string) error{InvalidGtrid: validateGtrid, InvalidBqual: validateBqual} {
			if err := validate(string(id)); ReasonOf(err) != reason || MetadataOf(err)["problem"] != invalid.Problem {
				t.Errorf("%x: %v", id, err)
			}
		}
	}
	for _, x := range v.Xids {
		branch := xid{x.Gtrid, x.Bqual}
		if branch.validate() != nil || branch.sql() != x.SQL || branch.gid() != x.Gid || branch.advisoryLock() != x.AdvisoryLock ||
			(witnessTable{"assent", "witness"}).insertSQL(branch, func(value string) string { return value }) != x.WitnessInsert {
			t.Errorf("%v: %s %s %d", x, branch.sql(), branch.gid(), branch.advisoryLock())
		}
	}
	for _, birth := range v.Births {
		if at, ok := birthOf(birth.Gtrid); !ok || at.UnixMilli() != birth.UnixMs {
			t.Errorf("%s: %v %v", birth.Gtrid, at, ok)
		}
	}
	for _, gtrid := range v.WithoutBirth {
		if at, ok := birthOf(gtrid); ok {
			t.Errorf("%s: %v", gtrid, at)
		}
	}
	for _, block := range v.Blocks {
		if got := gtridOfBlock(block.Prefix, block.Index); got != block.Gtrid {
			t.Errorf("%v: %s", block, got)
		}
	}
	for _, table := range v.WitnessTables.Valid {
		if got, err := parseWitnessTable(table.Name); err != nil || got.quoted() != table.Quoted || got.name() != table.Name {
			t.Errorf("%v: %v %v", table, got, err)
		}
	}
	for _, table := range v.WitnessTables.Invalid {
		if _, err := parseWitnessTable(table); ReasonOf(err) != InvalidField {
			t.Errorf("%q: %v", table, err)
		}
	}
	for _, refusal := range v.WitnessRefusals {
		table, _ := parseWitnessTable(refusal.Table)
		if got, _ := table.whyRefused(refusal.Code); got != refusal.Why {
			t.Errorf("%d: %s", refusal.Code, got)
		}
	}
}

func TestVectorsOfErrors(t *testing.T) {
	v := readVectors(t)
	if len(v.Reasons) != len(allReasons) || len(v.Attempts) == 0 {
		t.Fatalf("%d reasons here, %d in the vectors", len(allReasons), len(v.Reasons))
	}
	if len(v.RetryAdvice) == 0 {
		t.Fatal("no advice in the vectors")
	}
	for _, want := range v.RetryAdvice {
		if got := newError(Reason(want.Reason), "words", want.Metadata).Retry(); string(got) != want.Retry {
			t.Errorf("%v: %s", want, got)
		}
	}
	for i, want := range v.Reasons {
		info := allReasons[i]
		if string(info.reason) != want.Reason || info.code != codeOf(t, want.Code) || string(info.retry) != want.Retry ||
			refusedByItself[info.reason] != want.RefusedByItself {
			t.Errorf("%v is not %v", info, want)
		}
		failed := newError(info.reason, "words", map[string]string{"gtrid": "g"})
		decision := strings.TrimPrefix(verdictOfError(failed).decision.String(), "DECISION_")
		counted := (&Global{client: &Client{}, concluded: true, outcome: v1.Outcome_OUTCOME_ROLLED_BACK}).notCounted(nil, failed) == nil
		got := decision
		switch {
		case !counted:
			got = "NOT_COUNTED"
		case decision == "UNSPECIFIED":
			got = "UNKNOWN"
		}
		if got != want.Verdict {
			t.Errorf("verdict of %s: %s, not %s", want.Reason, got, want.Verdict)
		}
		// It travels, and comes back the same.
		back := errorOfStatus(failed.GRPCStatus())
		if back.Reason != info.reason || back.Code != info.code || back.Metadata["gtrid"] != "g" || back.Retry() != info.retry {
			t.Errorf("%v became %v", failed, back)
		}
		outcome := "open"
		if back.Is(ErrRolledBack) {
			outcome = "rolled back"
		} else if back.Is(ErrInDoubt) {
			outcome = "in doubt"
		}
		if outcome != want.Outcome {
			t.Errorf("outcome of %s: %s, not %s", want.Reason, outcome, want.Outcome)
		}
	}
	for _, attempt := range v.Attempts {
		failed := &Error{Code: codeOf(t, attempt.Code), Reason: Reason(attempt.Reason)}
		if mayRepeat(failed) != attempt.Repeat || (mayRepeat(failed) && isAway(failed)) != attempt.Next {
			t.Errorf("%v: repeat %t, next %t", attempt, mayRepeat(failed), isAway(failed))
		}
	}
}

func TestVectorsOfAnswers(t *testing.T) {
	v := readVectors(t)
	status := func(decision, state, cause, outcome string) *v1.GlobalStatus {
		return &v1.GlobalStatus{Decision: v1.Decision(v1.Decision_value[decision]), State: v1.Global_State(v1.Global_State_value[state]),
			Cause: v1.DecisionCause(v1.DecisionCause_value[cause]), Outcome: v1.Outcome(v1.Outcome_value[outcome])}
	}
	for _, want := range v.Verdicts {
		got := verdictOfStatus(status(want.Decision, want.State, want.Cause, ""))
		name := strings.TrimPrefix(got.decision.String(), "DECISION_")
		if name == "UNSPECIFIED" {
			name = "UNKNOWN"
		}
		if name != want.Verdict || string(ReasonOf(orNil(got.why))) != want.Reason {
			t.Errorf("%v: %v", want, got)
		}
	}
	for _, want := range v.Waits {
		if isWaitOver(v1.Wait(v1.Wait_value[want.Wait]), status(want.Decision, want.State, "", want.Outcome)) != want.Over {
			t.Errorf("%v", want)
		}
	}
	for _, want := range v.Servers {
		session := &v1.Session{Server: want.SessionServer, Timeline: want.SessionTimeline}
		if (checkServer(session, "r", want.Server, want.Timeline) == nil) != want.OK {
			t.Errorf("%v", want)
		}
	}
}

func TestVectorsOfDatabases(t *testing.T) {
	v := readVectors(t)
	if len(v.MySQLOutcomes) == 0 || len(v.PostgresOutcomes) == 0 || len(v.Proves) == 0 || len(v.Finish) == 0 {
		t.Fatal("the vectors are incomplete")
	}
	for _, want := range v.MySQLOutcomes {
		if got := mysqlOutcome(xaVerb(want.Verb), want.Code); string(got) != want.Outcome {
			t.Errorf("%v: %s", want, got)
		}
	}
	for _, want := range v.PostgresOutcomes {
		if got := postgresOutcome(xaVerb(want.Verb), &dbError{sqlstate: want.SQLState, message: "words"}); string(got) != want.Outcome {
			t.Errorf("%v: %s", want, got)
		}
	}
	for _, want := range v.Proves {
		if provesRolledBack(xaOutcome(want.Outcome), want.Detaches, want.Sent) != want.Proven {
			t.Errorf("%v", want)
		}
	}
	for _, want := range v.Finish {
		if got := finishOf(want.Decision == "COMMIT", xaOutcome(want.Outcome), want.Detaches); string(got) != want.Result {
			t.Errorf("%v: %s", want, got)
		}
	}
	for _, code := range v.Lost {
		if !isConnectionLost(code) {
			t.Errorf("%d", code)
		}
	}
	for _, code := range v.Kept {
		if isConnectionLost(code) {
			t.Errorf("%d", code)
		}
	}
	if markSQL(v.Mark.Mark) != v.Mark.Set || markCheckSQL(v.Mark.Mark) != v.Mark.Check || v.Mark.Refusal != erDataOutOfRange {
		t.Errorf("%v", v.Mark)
	}
}

func TestVectorsOfAddresses(t *testing.T) {
	v := readVectors(t)
	for _, addresses := range v.Addresses.Valid {
		client, err := NewClient(addresses)
		if err != nil {
			t.Errorf("%q: %v", addresses, err)
			continue
		}
		_ = client.Close()
	}
	for _, addresses := range v.Addresses.Invalid {
		_, err := NewClient(addresses)
		if ReasonOf(err) != InvalidField || MetadataOf(err)["field"] != "addresses" || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%q: %v", addresses, err)
		}
	}
	// It names the bad one, of several.
	if _, err := NewClient("a:1,http://b:2"); err == nil || !strings.Contains(err.Error(), "'http://b:2'") || strings.Contains(err.Error(), "a:1") {
		t.Error(err)
	}
}

func TestVectorsOfDefaults(t *testing.T) {
	v := readVectors(t)
	client, err := NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) }
	for name, value := range map[string]float64{
		"call_patience_ms": ms(client.options.callPatience), "decision_patience_ms": ms(client.options.decisionPatience),
		"rollback_at_end_of_scope_ms": ms(scopePatience), "attempt_ms": ms(attemptTimeout),
		"attempt_of_several_ms": ms(attemptOfSeveralTimeout), "first_pause_ms": ms(firstPause), "max_pause_ms": ms(maxPause),
		"finish_retry_pause_ms": ms(finishRetryPause), "completions_per_call": maxCompletionBatch,
		"completions_waiting": maxCompletionsWaiting, "completion_attempt_ms": ms(completionAttempt),
		"completion_pause_ms": ms(completionPause), "flush_at_close_ms": ms(flushAtClose), "max_failure_bytes": maxFailureBytes,
		"max_reason_bytes": maxReasonBytes, "max_branches": maxSoleBranches,
		"tell_pause_ms": ms(tellPause), "age_holds_ms": ms(ageHolds),
	} {
		if v.Defaults[name] != value {
			t.Errorf("%s is %v, not %v", name, value, v.Defaults[name])
		}
	}
	var begin beginOptions
	for name, value := range map[string]bool{"sole_participant": begin.soleParticipant, "one_phase_commit": !begin.twoPhases} {
		if v.Defaults[name] != value {
			t.Errorf("%s is %v, not %v", name, value, v.Defaults[name])
		}
	}
	if v.Metadata["grpc_gtrid"] != GtridMetadata || v.Metadata["http_gtrid"] != GtridHeader ||
		v.Metadata["grpc_traceparent"] != TraceparentMetadata || v.Metadata["error_domain"] != errorDomain {
		t.Error(v.Metadata)
	}
}
