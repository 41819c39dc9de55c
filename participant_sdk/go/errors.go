package assent

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorDomain is what ErrorInfo of every refusal of Assent's has.
const errorDomain = "assent.v1"

// Sentinels for errors.Is. Nil, ErrRolledBack and ErrInDoubt are the three outcomes of Commit, Prepare and Rollback;
// any other error of theirs, but for GlobalCommitted, came before any decision, and the transaction is still open.
var (
	// ErrRolledBack is every error that means "rolled back: do the whole work again, if the error's Retry says that it
	// helps".
	ErrRolledBack = errors.New("rolled back")
	// ErrInDoubt means: decided or perhaps decided, and not proven. Never do the work again before
	// `assentctl globals get GTRID` says how it ended.
	ErrInDoubt = errors.New("in doubt")
)

// Error is what Assent refuses, or says of an outcome. Act on Code and Reason; Message is for people and may change.
type Error struct {
	// Code is the gRPC code.
	Code codes.Code
	// Reason is one of docs/errors.md; empty for an error that is none of Assent's (the transport's).
	Reason Reason
	// Message says what happened and what to do.
	Message string
	// Metadata holds the dynamic parts of the message: gtrid, bqual, error_code, sqlstate, …
	Metadata map[string]string

	cause error
}

func newError(reason Reason, message string, metadata map[string]string) *Error {
	return &Error{Code: reasonsByName[reason].code, Reason: reason, Message: message, Metadata: metadata}
}

func (e *Error) because(cause error) *Error {
	e.cause = cause
	return e
}

// Error answers `CODE REASON: message`.
func (e *Error) Error() string {
	text := codeName(e.Code)
	if e.Reason != "" {
		text += " " + string(e.Reason)
	}
	return text + ": " + e.Message
}

// Unwrap answers what was behind it: the driver's own error, or the context's.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is work with a Reason and with the two outcomes.
func (e *Error) Is(target error) bool {
	if reason, ok := target.(Reason); ok {
		return e.Reason == reason
	}
	return (target == ErrRolledBack && e.Code == codes.Aborted) || (target == ErrInDoubt && e.Reason == OutcomeInDoubt)
}

// GRPCStatus makes status.FromError and gRPC servers answer it with its code and its ErrorInfo.
func (e *Error) GRPCStatus() *status.Status {
	plain := status.New(e.Code, e.Message)
	if e.Reason == "" {
		return plain
	}
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: errorDomain, Metadata: e.Metadata}
	if detailed, err := plain.WithDetails(info); err == nil {
		return detailed
	}
	return plain
}

// Retry says what repeating helps: the reason's advice, but RetryNever where the metadata says that the same work fails again.
func (e *Error) Retry() Retry {
	if info, known := reasonsByName[e.Reason]; known {
		if info.retry == RetryWholeTransaction && meetsItAgain(e.Metadata) {
			return RetryNever
		}
		return info.retry
	}
	if e.Code == codes.Unavailable {
		return RetrySameCall
	}
	return RetryNever
}

// ReasonOf answers the reason of an error of Assent's, also one that is wrapped; empty for others.
func ReasonOf(err error) Reason {
	var known *Error
	if errors.As(err, &known) {
		return known.Reason
	}
	return ""
}

// MetadataOf answers the metadata of an error of Assent's, also one that is wrapped.
func MetadataOf(err error) map[string]string {
	var known *Error
	if errors.As(err, &known) {
		return known.Metadata
	}
	return nil
}

// errorOf reads what a call answered. Nil for nil.
func errorOf(err error) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: codes.DeadlineExceeded, Message: err.Error(), cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: codes.Canceled, Message: err.Error(), cause: err}
	}
	return errorOfStatus(status.Convert(err))
}

func errorOfStatus(from *status.Status) *Error {
	out := &Error{Code: from.Code(), Message: from.Message(), cause: from.Err()}
	for _, detail := range from.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			out.Reason = Reason(info.GetReason())
			out.Metadata = info.GetMetadata()
		}
	}
	return out
}

func errorOfRPC(from *rpcstatus.Status) *Error { return errorOfStatus(status.FromProto(from)) }

// isRetryable tells whether repeating the very same call may help.
func isRetryable(err *Error) bool { return err.Retry() == RetrySameCall }

// mayRepeat adds the attempts that ran out of time or that the transport cut off: they say nothing about the call.
func mayRepeat(err *Error) bool {
	return isRetryable(err) || err.Code == codes.DeadlineExceeded || err.Code == codes.Canceled
}

// isAway tells that this instance does not answer, or has nothing to answer with: another one may.
func isAway(err *Error) bool {
	return err.Code == codes.Unavailable || err.Code == codes.DeadlineExceeded || err.Code == codes.Canceled
}

// codeName is the code as docs/errors.md writes it.
func codeName(code codes.Code) string {
	var text strings.Builder
	for i, letter := range code.String() {
		if i > 0 && letter >= 'A' && letter <= 'Z' && code != codes.OK {
			text.WriteByte('_')
		}
		text.WriteRune(letter)
	}
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(text.String())
}
