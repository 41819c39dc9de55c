package assent

import (
	"time"

	"google.golang.org/grpc/credentials"

	v1 "assent.example/assent/assentv1"
)

// Logger takes the few lines that the SDK writes (what a caller is not told by an error). *log.Logger is one.
type Logger interface {
	Printf(format string, args ...any)
}

type clientOptions struct {
	credentials      credentials.TransportCredentials
	callPatience     time.Duration
	decisionPatience time.Duration
	sessionTimeout   time.Duration
	logger           Logger
	callStream       bool
}

// ClientOption changes a default of NewClient.
type ClientOption func(*clientOptions)

// WithCredentials sets how to connect to the coordinator. Default: plaintext.
func WithCredentials(credentials credentials.TransportCredentials) ClientOption {
	return func(o *clientOptions) { o.credentials = credentials }
}

// WithCallPatience sets how long calls that may still be given up (before any branch is prepared) are repeated while the
// coordinator does not answer. Default: 30 s.
func WithCallPatience(patience time.Duration) ClientOption {
	return func(o *clientOptions) { o.callPatience = patience }
}

// WithDecisionPatience sets how long to ask for a decision once branches are prepared. They hold their locks meanwhile;
// afterwards they are in doubt. Default: 5 min.
func WithDecisionPatience(patience time.Duration) ClientOption {
	return func(o *clientOptions) { o.decisionPatience = patience }
}

// WithSessionTimeout sets how long a database may take to answer PREPARE, COMMIT or ROLLBACK before its connection is
// given up. Default: 10 min.
func WithSessionTimeout(timeout time.Duration) ClientOption {
	return func(o *clientOptions) { o.sessionTimeout = timeout }
}

// WithCallStream sets whether all calls share one stream to the coordinator, which is several times cheaper. False: each is a
// unary call, for what is between here and the coordinator and balances or counts calls. Where no stream is offered that
// happens by itself. Default: true.
func WithCallStream(wanted bool) ClientOption {
	return func(o *clientOptions) { o.callStream = wanted }
}

// WithLogger sets where the SDK writes to. Default: log.Default().
func WithLogger(logger Logger) ClientOption {
	return func(o *clientOptions) { o.logger = logger }
}

// Policy says when the decision is taken.
type Policy = v1.DecisionPolicy

const (
	// OnFinalize: Commit decides. The default.
	OnFinalize = v1.DecisionPolicy_DECISION_POLICY_ON_FINALIZE
	// WhenAllPrepared: the last of the expected branches' votes does.
	WhenAllPrepared = v1.DecisionPolicy_DECISION_POLICY_WHEN_ALL_PREPARED
)

type beginOptions struct {
	soleParticipant  bool
	twoPhases        bool
	timeout          time.Duration
	gtrid            string
	policy           Policy
	expectedBranches int
	resources        []string
}

// BeginOption is an option of Client.Begin.
type BeginOption func(*beginOptions)

// WithSoleParticipant says that nobody else takes part: every branch is opened by this Global. Begin and the opening of
// branches then ask nobody, and Commit makes one call, which creates the transaction with its decision. Until then the
// coordinator knows nothing of it: another process cannot join it (GLOBAL_NOT_FOUND), it is not listed, and if this
// process dies with a branch prepared, recovery rolls that back when it has seen it for the resource's orphan age, not at
// the timeout. Not together with WithPolicy or WithExpectedBranches, and with WithGtrid only if that is
// `<cluster>-<ULID>`, made now: INVALID_FIELD.
func WithSoleParticipant() BeginOption { return func(o *beginOptions) { o.soleParticipant = true } }

// WithOnePhaseCommit says whether a sole participant of which only one branch has written (on MariaDB without a binary log, with
// a witness, under a gtrid that the coordinator has made) commits that in one phase. Default: true. It takes one forced write at
// its database and none to wait for at the coordinator, which is told afterwards. If the answer is lost, or this process dies,
// the branch's witness is all that tells how it ended: Commit asks the coordinator to look; and of a process that died,
// GetGlobal may say GLOBAL_NOT_FOUND until a sweep of the resource has found the commit. The timeout counts if it is given.
// False: always two phases, with the decision on record first.
func WithOnePhaseCommit(allowed bool) BeginOption {
	return func(o *beginOptions) { o.twoPhases = !allowed }
}

// WithTimeout sets the time from Begin to ROLLBACK if undecided. Default: the coordinator's.
func WithTimeout(timeout time.Duration) BeginOption {
	return func(o *beginOptions) { o.timeout = timeout }
}

// WithGtrid sets the caller's own id. Default: the coordinator makes one.
func WithGtrid(gtrid string) BeginOption { return func(o *beginOptions) { o.gtrid = gtrid } }

// WithPolicy sets when the decision is taken.
func WithPolicy(policy Policy) BeginOption { return func(o *beginOptions) { o.policy = policy } }

// WithExpectedBranches sets the number of branches that COMMIT requires.
func WithExpectedBranches(count int) BeginOption {
	return func(o *beginOptions) { o.expectedBranches = count }
}

// WithResources names resources to create a branch on in the same round trip; opening them then costs none. A sole
// participant needs none.
func WithResources(resources ...string) BeginOption {
	return func(o *beginOptions) { o.resources = append(o.resources, resources...) }
}
