package assent

import "google.golang.org/grpc/codes"

// Reason says why something was refused: stable, one of docs/errors.md. It is an error itself, so that
// errors.Is(err, assent.GlobalRolledBack) asks for it.
type Reason string

// Error makes a Reason something that errors.Is takes.
func (r Reason) Error() string { return string(r) }

// Retry says what repeating helps.
type Retry string

// The three kinds of advice.
const (
	RetryNever            Retry = "never"             // The same call gets the same error.
	RetrySameCall         Retry = "same call"         // Repeat the call unchanged after a pause (the SDK does).
	RetryWholeTransaction Retry = "whole transaction" // Begin a new global transaction and do the work again.
)

// Every reason, in order of precedence, as base/errors.h has them.
const (
	InvalidGtrid           Reason = "INVALID_GTRID"
	InvalidTimeout         Reason = "INVALID_TIMEOUT"
	TooManyBranches        Reason = "TOO_MANY_BRANCHES"
	TooManyItems           Reason = "TOO_MANY_ITEMS"
	InvalidBqual           Reason = "INVALID_BQUAL"
	InvalidField           Reason = "INVALID_FIELD"
	InvalidResource        Reason = "INVALID_RESOURCE"
	InvalidPageSize        Reason = "INVALID_PAGE_SIZE"
	InvalidPageToken       Reason = "INVALID_PAGE_TOKEN"
	ResourceNotFound       Reason = "RESOURCE_NOT_FOUND"
	ResourceExists         Reason = "RESOURCE_EXISTS"
	ResourceInUse          Reason = "RESOURCE_IN_USE"
	ResourceUnreachable    Reason = "RESOURCE_UNREACHABLE"
	ResourceUnfit          Reason = "RESOURCE_UNFIT"
	ResourceClaimed        Reason = "RESOURCE_CLAIMED"
	ResourceQuarantined    Reason = "RESOURCE_QUARANTINED"
	WrongServer            Reason = "WRONG_SERVER"
	ShuttingDown           Reason = "SHUTTING_DOWN"
	Overloaded             Reason = "OVERLOADED"
	TooManyOpenGlobals     Reason = "TOO_MANY_OPEN_GLOBALS"
	GlobalNotFound         Reason = "GLOBAL_NOT_FOUND"
	RequestIDReused        Reason = "REQUEST_ID_REUSED"
	GtridInUse             Reason = "GTRID_IN_USE"
	GlobalRolledBack       Reason = "GLOBAL_ROLLED_BACK"
	GlobalCommitted        Reason = "GLOBAL_COMMITTED"
	GlobalNotDecided       Reason = "GLOBAL_NOT_DECIDED"
	BranchNotFound         Reason = "BRANCH_NOT_FOUND"
	BranchExists           Reason = "BRANCH_EXISTS"
	VoteChanged            Reason = "VOTE_CHANGED"
	CompletionChanged      Reason = "COMPLETION_CHANGED"
	BranchesNotPrepared    Reason = "BRANCHES_NOT_PREPARED"
	EtagMismatch           Reason = "ETAG_MISMATCH"
	ResolutionRefused      Reason = "RESOLUTION_REFUSED"
	StoreUnavailable       Reason = "STORE_UNAVAILABLE"
	StoreFull              Reason = "STORE_FULL"
	StoreLocked            Reason = "STORE_LOCKED"
	StoreReadOnly          Reason = "STORE_READ_ONLY"
	StoreCorrupt           Reason = "STORE_CORRUPT"
	StoreSchemaNewer       Reason = "STORE_SCHEMA_NEWER"
	StoreOtherCluster      Reason = "STORE_OTHER_CLUSTER"
	StoreUnfit             Reason = "STORE_UNFIT"
	StoreHalfImported      Reason = "STORE_HALF_IMPORTED"
	StoreNotSettled        Reason = "STORE_NOT_SETTLED"
	StoreDiffers           Reason = "STORE_DIFFERS"
	StoreFileInvalid       Reason = "STORE_FILE_INVALID"
	InstanceFenced         Reason = "INSTANCE_FENCED"
	CoordinatorUnreachable Reason = "COORDINATOR_UNREACHABLE"
	DatabaseError          Reason = "DATABASE_ERROR"
	DatabaseUnreachable    Reason = "DATABASE_UNREACHABLE"
	SessionInTransaction   Reason = "SESSION_IN_TRANSACTION"
	SessionHoldsBranch     Reason = "SESSION_HOLDS_BRANCH"
	SessionReset           Reason = "SESSION_RESET"
	XANotSupported         Reason = "XA_NOT_SUPPORTED"
	BranchPoisoned         Reason = "BRANCH_POISONED"
	BranchEnded            Reason = "BRANCH_ENDED"
	OutcomeInDoubt         Reason = "OUTCOME_IN_DOUBT"
)

type reasonInfo struct {
	reason Reason
	code   codes.Code
	retry  Retry
}

var allReasons = []reasonInfo{
	{InvalidGtrid, codes.InvalidArgument, RetryNever},
	{InvalidTimeout, codes.InvalidArgument, RetryNever},
	{TooManyBranches, codes.InvalidArgument, RetryNever},
	{TooManyItems, codes.InvalidArgument, RetryNever},
	{InvalidBqual, codes.InvalidArgument, RetryNever},
	{InvalidField, codes.InvalidArgument, RetryNever},
	{InvalidResource, codes.InvalidArgument, RetryNever},
	{InvalidPageSize, codes.InvalidArgument, RetryNever},
	{InvalidPageToken, codes.InvalidArgument, RetryNever},
	{ResourceNotFound, codes.NotFound, RetryNever},
	{ResourceExists, codes.AlreadyExists, RetryNever},
	{ResourceInUse, codes.FailedPrecondition, RetryNever},
	{ResourceUnreachable, codes.Unavailable, RetrySameCall},
	{ResourceUnfit, codes.FailedPrecondition, RetryNever},
	{ResourceClaimed, codes.FailedPrecondition, RetryNever},
	{ResourceQuarantined, codes.FailedPrecondition, RetryNever},
	{WrongServer, codes.FailedPrecondition, RetryNever},
	{ShuttingDown, codes.Unavailable, RetrySameCall},
	{Overloaded, codes.Unavailable, RetrySameCall},
	{TooManyOpenGlobals, codes.ResourceExhausted, RetrySameCall},
	{GlobalNotFound, codes.NotFound, RetryNever},
	{RequestIDReused, codes.AlreadyExists, RetryNever},
	{GtridInUse, codes.AlreadyExists, RetryNever},
	{GlobalRolledBack, codes.Aborted, RetryWholeTransaction},
	{GlobalCommitted, codes.FailedPrecondition, RetryNever},
	{GlobalNotDecided, codes.FailedPrecondition, RetryNever},
	{BranchNotFound, codes.NotFound, RetryNever},
	{BranchExists, codes.AlreadyExists, RetryNever},
	{VoteChanged, codes.FailedPrecondition, RetryNever},
	{CompletionChanged, codes.FailedPrecondition, RetryNever},
	{BranchesNotPrepared, codes.FailedPrecondition, RetryNever},
	{EtagMismatch, codes.Aborted, RetryNever},
	{ResolutionRefused, codes.FailedPrecondition, RetryNever},
	{StoreUnavailable, codes.Unavailable, RetrySameCall},
	{StoreFull, codes.Unavailable, RetrySameCall},
	{StoreLocked, codes.FailedPrecondition, RetryNever},
	{StoreReadOnly, codes.FailedPrecondition, RetryNever},
	{StoreCorrupt, codes.DataLoss, RetryNever},
	{StoreSchemaNewer, codes.FailedPrecondition, RetryNever},
	{StoreOtherCluster, codes.FailedPrecondition, RetryNever},
	{StoreUnfit, codes.FailedPrecondition, RetryNever},
	{StoreHalfImported, codes.FailedPrecondition, RetryNever},
	{StoreNotSettled, codes.FailedPrecondition, RetryNever},
	{StoreDiffers, codes.FailedPrecondition, RetryNever},
	{StoreFileInvalid, codes.InvalidArgument, RetryNever},
	{InstanceFenced, codes.Unavailable, RetrySameCall},
	{CoordinatorUnreachable, codes.Unavailable, RetrySameCall},
	{DatabaseError, codes.Aborted, RetryWholeTransaction},
	{DatabaseUnreachable, codes.Unavailable, RetryWholeTransaction},
	{SessionInTransaction, codes.FailedPrecondition, RetryNever},
	{SessionHoldsBranch, codes.FailedPrecondition, RetryNever},
	{SessionReset, codes.Aborted, RetryWholeTransaction},
	{XANotSupported, codes.FailedPrecondition, RetryNever},
	{BranchPoisoned, codes.Aborted, RetryWholeTransaction},
	{BranchEnded, codes.FailedPrecondition, RetryNever},
	{OutcomeInDoubt, codes.Unknown, RetryNever},
}

// refusedByItself are those of allReasons that look at the request alone: no attempt of the same call is ever carried out.
var refusedByItself = func() map[Reason]bool {
	refused := map[Reason]bool{}
	for _, info := range allReasons {
		if info.reason == ResourceNotFound {
			break
		}
		refused[info.reason] = true
	}
	return refused
}()

var reasonsByName = func() map[Reason]reasonInfo {
	byName := make(map[Reason]reasonInfo, len(allReasons))
	for _, info := range allReasons {
		byName[info.reason] = info
	}
	return byName
}()

// lastingClasses are those of SQLSTATE that the same work meets again: a feature that is not there, data or a key that
// does not fit, an account that may not, a database or schema that is not there, a statement that is wrong.
var lastingClasses = map[string]bool{"0A": true, "22": true, "23": true, "28": true, "3D": true, "3F": true, "42": true}

// meetsItAgain tells whether the same work in a new transaction would get the same error, as far as the metadata tells.
func meetsItAgain(metadata map[string]string) bool {
	if state := metadata["sqlstate"]; len(state) == 5 && lastingClasses[state[:2]] {
		return true
	}
	// What MariaDB and MySQL answer to DDL, BEGIN, … in a branch; after a verb, which has an outcome, it means something else.
	if _, ofVerb := metadata["outcome"]; metadata["error_code"] == "1399" && !ofVerb {
		return true
	}
	because, known := reasonsByName[Reason(metadata["because"])]
	return known && because.retry == RetryNever
}
