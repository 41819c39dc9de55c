from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BranchOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BRANCH_OUTCOME_UNSPECIFIED: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_COMMITTED: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_ROLLED_BACK: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_STILL_PREPARED: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_ATTACHED_ELSEWHERE: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_NEVER_PREPARED: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_HEURISTIC_COMMITTED: _ClassVar[BranchOutcome]
    BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK: _ClassVar[BranchOutcome]

class VoteKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOTE_KIND_UNSPECIFIED: _ClassVar[VoteKind]
    VOTE_KIND_PREPARED: _ClassVar[VoteKind]
    VOTE_KIND_READ_ONLY: _ClassVar[VoteKind]
    VOTE_KIND_FAILED: _ClassVar[VoteKind]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_COMMIT: _ClassVar[Decision]
    DECISION_ROLLBACK: _ClassVar[Decision]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_COMMITTED: _ClassVar[Outcome]
    OUTCOME_ROLLED_BACK: _ClassVar[Outcome]
    OUTCOME_IN_DOUBT: _ClassVar[Outcome]

class DecisionCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_CAUSE_UNSPECIFIED: _ClassVar[DecisionCause]
    DECISION_CAUSE_FINALIZE: _ClassVar[DecisionCause]
    DECISION_CAUSE_ALL_PREPARED: _ClassVar[DecisionCause]
    DECISION_CAUSE_BRANCH_FAILED: _ClassVar[DecisionCause]
    DECISION_CAUSE_DEADLINE: _ClassVar[DecisionCause]
    DECISION_CAUSE_PRESUMED_ABORT: _ClassVar[DecisionCause]
    DECISION_CAUSE_REFUSED: _ClassVar[DecisionCause]
    DECISION_CAUSE_ONE_PHASE: _ClassVar[DecisionCause]

class DecisionPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_POLICY_UNSPECIFIED: _ClassVar[DecisionPolicy]
    DECISION_POLICY_ON_FINALIZE: _ClassVar[DecisionPolicy]
    DECISION_POLICY_WHEN_ALL_PREPARED: _ClassVar[DecisionPolicy]
BRANCH_OUTCOME_UNSPECIFIED: BranchOutcome
BRANCH_OUTCOME_COMMITTED: BranchOutcome
BRANCH_OUTCOME_ROLLED_BACK: BranchOutcome
BRANCH_OUTCOME_STILL_PREPARED: BranchOutcome
BRANCH_OUTCOME_ATTACHED_ELSEWHERE: BranchOutcome
BRANCH_OUTCOME_NEVER_PREPARED: BranchOutcome
BRANCH_OUTCOME_HEURISTIC_COMMITTED: BranchOutcome
BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK: BranchOutcome
VOTE_KIND_UNSPECIFIED: VoteKind
VOTE_KIND_PREPARED: VoteKind
VOTE_KIND_READ_ONLY: VoteKind
VOTE_KIND_FAILED: VoteKind
DECISION_UNSPECIFIED: Decision
DECISION_COMMIT: Decision
DECISION_ROLLBACK: Decision
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_COMMITTED: Outcome
OUTCOME_ROLLED_BACK: Outcome
OUTCOME_IN_DOUBT: Outcome
DECISION_CAUSE_UNSPECIFIED: DecisionCause
DECISION_CAUSE_FINALIZE: DecisionCause
DECISION_CAUSE_ALL_PREPARED: DecisionCause
DECISION_CAUSE_BRANCH_FAILED: DecisionCause
DECISION_CAUSE_DEADLINE: DecisionCause
DECISION_CAUSE_PRESUMED_ABORT: DecisionCause
DECISION_CAUSE_REFUSED: DecisionCause
DECISION_CAUSE_ONE_PHASE: DecisionCause
DECISION_POLICY_UNSPECIFIED: DecisionPolicy
DECISION_POLICY_ON_FINALIZE: DecisionPolicy
DECISION_POLICY_WHEN_ALL_PREPARED: DecisionPolicy

class Global(_message.Message):
    __slots__ = ("gtrid", "state", "decision", "cause", "cause_detail", "decided_by", "create_time", "expire_time", "decide_time", "end_time", "policy", "expected_branches", "branches", "request_id", "revision", "timeout", "created_with", "history", "history_omitted")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Global.State]
        STATE_ACTIVE: _ClassVar[Global.State]
        STATE_COMMITTING: _ClassVar[Global.State]
        STATE_COMMITTED: _ClassVar[Global.State]
        STATE_ROLLING_BACK: _ClassVar[Global.State]
        STATE_ROLLED_BACK: _ClassVar[Global.State]
        STATE_HEURISTIC: _ClassVar[Global.State]
        STATE_HEURISTIC_CLOSED: _ClassVar[Global.State]
        STATE_ONE_PHASE: _ClassVar[Global.State]
    STATE_UNSPECIFIED: Global.State
    STATE_ACTIVE: Global.State
    STATE_COMMITTING: Global.State
    STATE_COMMITTED: Global.State
    STATE_ROLLING_BACK: Global.State
    STATE_ROLLED_BACK: Global.State
    STATE_HEURISTIC: Global.State
    STATE_HEURISTIC_CLOSED: Global.State
    STATE_ONE_PHASE: Global.State
    GTRID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_DETAIL_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BRANCHES_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CREATED_WITH_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    HISTORY_OMITTED_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    state: Global.State
    decision: Decision
    cause: DecisionCause
    cause_detail: str
    decided_by: str
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    decide_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    policy: DecisionPolicy
    expected_branches: int
    branches: _containers.RepeatedCompositeFieldContainer[Branch]
    request_id: str
    revision: int
    timeout: _duration_pb2.Duration
    created_with: int
    history: _containers.RepeatedCompositeFieldContainer[HistoryEntry]
    history_omitted: int
    def __init__(self, gtrid: _Optional[str] = ..., state: _Optional[_Union[Global.State, str]] = ..., decision: _Optional[_Union[Decision, str]] = ..., cause: _Optional[_Union[DecisionCause, str]] = ..., cause_detail: _Optional[str] = ..., decided_by: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy: _Optional[_Union[DecisionPolicy, str]] = ..., expected_branches: _Optional[int] = ..., branches: _Optional[_Iterable[_Union[Branch, _Mapping]]] = ..., request_id: _Optional[str] = ..., revision: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., created_with: _Optional[int] = ..., history: _Optional[_Iterable[_Union[HistoryEntry, _Mapping]]] = ..., history_omitted: _Optional[int] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("revision", "time", "actor", "event", "state", "detail")
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[HistoryEntry.Event]
        EVENT_CREATED: _ClassVar[HistoryEntry.Event]
        EVENT_BRANCHES_ADDED: _ClassVar[HistoryEntry.Event]
        EVENT_VOTED: _ClassVar[HistoryEntry.Event]
        EVENT_DECIDED: _ClassVar[HistoryEntry.Event]
        EVENT_COMPLETED: _ClassVar[HistoryEntry.Event]
        EVENT_RECOVERED: _ClassVar[HistoryEntry.Event]
        EVENT_RESOLVED: _ClassVar[HistoryEntry.Event]
    EVENT_UNSPECIFIED: HistoryEntry.Event
    EVENT_CREATED: HistoryEntry.Event
    EVENT_BRANCHES_ADDED: HistoryEntry.Event
    EVENT_VOTED: HistoryEntry.Event
    EVENT_DECIDED: HistoryEntry.Event
    EVENT_COMPLETED: HistoryEntry.Event
    EVENT_RECOVERED: HistoryEntry.Event
    EVENT_RESOLVED: HistoryEntry.Event
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    revision: int
    time: _timestamp_pb2.Timestamp
    actor: str
    event: HistoryEntry.Event
    state: Global.State
    detail: str
    def __init__(self, revision: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., event: _Optional[_Union[HistoryEntry.Event, str]] = ..., state: _Optional[_Union[Global.State, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Branch(_message.Message):
    __slots__ = ("bqual", "resource", "state", "failure", "witness_table", "create_time", "update_time", "request_id", "vote", "session", "evidence", "acknowledged", "server", "witness_missing", "witnessed", "timeline", "one_phase")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Branch.State]
        STATE_ACTIVE: _ClassVar[Branch.State]
        STATE_PREPARED: _ClassVar[Branch.State]
        STATE_READ_ONLY: _ClassVar[Branch.State]
        STATE_FAILED: _ClassVar[Branch.State]
        STATE_COMMITTED: _ClassVar[Branch.State]
        STATE_ROLLED_BACK: _ClassVar[Branch.State]
        STATE_HEURISTIC_COMMITTED: _ClassVar[Branch.State]
        STATE_HEURISTIC_ROLLED_BACK: _ClassVar[Branch.State]
    STATE_UNSPECIFIED: Branch.State
    STATE_ACTIVE: Branch.State
    STATE_PREPARED: Branch.State
    STATE_READ_ONLY: Branch.State
    STATE_FAILED: Branch.State
    STATE_COMMITTED: Branch.State
    STATE_ROLLED_BACK: Branch.State
    STATE_HEURISTIC_COMMITTED: Branch.State
    STATE_HEURISTIC_ROLLED_BACK: Branch.State
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_TABLE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    WITNESS_MISSING_FIELD_NUMBER: _ClassVar[int]
    WITNESSED_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    ONE_PHASE_FIELD_NUMBER: _ClassVar[int]
    bqual: str
    resource: str
    state: Branch.State
    failure: BranchFailure
    witness_table: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    request_id: str
    vote: VoteKind
    session: Session
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    acknowledged: bool
    server: str
    witness_missing: bool
    witnessed: bool
    timeline: int
    one_phase: bool
    def __init__(self, bqual: _Optional[str] = ..., resource: _Optional[str] = ..., state: _Optional[_Union[Branch.State, str]] = ..., failure: _Optional[_Union[BranchFailure, _Mapping]] = ..., witness_table: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ..., vote: _Optional[_Union[VoteKind, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., acknowledged: bool = ..., server: _Optional[str] = ..., witness_missing: bool = ..., witnessed: bool = ..., timeline: _Optional[int] = ..., one_phase: bool = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("server", "connection_id", "server_start_time", "session_start_time", "detached", "transaction_id", "timeline")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_START_TIME_FIELD_NUMBER: _ClassVar[int]
    SESSION_START_TIME_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    server: str
    connection_id: int
    server_start_time: _timestamp_pb2.Timestamp
    session_start_time: _timestamp_pb2.Timestamp
    detached: bool
    transaction_id: int
    timeline: int
    def __init__(self, server: _Optional[str] = ..., connection_id: _Optional[int] = ..., server_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., session_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., detached: bool = ..., transaction_id: _Optional[int] = ..., timeline: _Optional[int] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("time", "outcome", "server", "server_start_time", "prepared_before", "prepared_after", "session", "witness", "done", "error_code", "sqlstate", "ghost", "detail", "resolved_by")
    class Sighting(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIGHTING_UNSPECIFIED: _ClassVar[Evidence.Sighting]
        SIGHTING_ABSENT: _ClassVar[Evidence.Sighting]
        SIGHTING_PRESENT: _ClassVar[Evidence.Sighting]
        SIGHTING_UNCOMMITTED: _ClassVar[Evidence.Sighting]
    SIGHTING_UNSPECIFIED: Evidence.Sighting
    SIGHTING_ABSENT: Evidence.Sighting
    SIGHTING_PRESENT: Evidence.Sighting
    SIGHTING_UNCOMMITTED: Evidence.Sighting
    TIME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    SERVER_START_TIME_FIELD_NUMBER: _ClassVar[int]
    PREPARED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PREPARED_AFTER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    SQLSTATE_FIELD_NUMBER: _ClassVar[int]
    GHOST_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_BY_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    outcome: BranchOutcome
    server: str
    server_start_time: _timestamp_pb2.Timestamp
    prepared_before: Evidence.Sighting
    prepared_after: Evidence.Sighting
    session: Evidence.Sighting
    witness: Evidence.Sighting
    done: str
    error_code: int
    sqlstate: str
    ghost: bool
    detail: str
    resolved_by: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., outcome: _Optional[_Union[BranchOutcome, str]] = ..., server: _Optional[str] = ..., server_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., prepared_before: _Optional[_Union[Evidence.Sighting, str]] = ..., prepared_after: _Optional[_Union[Evidence.Sighting, str]] = ..., session: _Optional[_Union[Evidence.Sighting, str]] = ..., witness: _Optional[_Union[Evidence.Sighting, str]] = ..., done: _Optional[str] = ..., error_code: _Optional[int] = ..., sqlstate: _Optional[str] = ..., ghost: bool = ..., detail: _Optional[str] = ..., resolved_by: _Optional[str] = ...) -> None: ...

class BranchFailure(_message.Message):
    __slots__ = ("error_code", "sqlstate", "message")
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    SQLSTATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    error_code: int
    sqlstate: str
    message: str
    def __init__(self, error_code: _Optional[int] = ..., sqlstate: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GlobalStatus(_message.Message):
    __slots__ = ("gtrid", "state", "decision", "outcome", "cause", "cause_detail", "branches")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_DETAIL_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    state: Global.State
    decision: Decision
    outcome: Outcome
    cause: DecisionCause
    cause_detail: str
    branches: int
    def __init__(self, gtrid: _Optional[str] = ..., state: _Optional[_Union[Global.State, str]] = ..., decision: _Optional[_Union[Decision, str]] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., cause: _Optional[_Union[DecisionCause, str]] = ..., cause_detail: _Optional[str] = ..., branches: _Optional[int] = ...) -> None: ...
