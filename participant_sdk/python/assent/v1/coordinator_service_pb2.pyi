from assent.v1 import global_pb2 as _global_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Wait(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_UNSPECIFIED: _ClassVar[Wait]
    WAIT_NONE: _ClassVar[Wait]
    WAIT_DECIDED: _ClassVar[Wait]
    WAIT_APPLIED: _ClassVar[Wait]

class Resolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLUTION_UNSPECIFIED: _ClassVar[Resolution]
    RESOLUTION_COMMITTED: _ClassVar[Resolution]
    RESOLUTION_ROLLED_BACK: _ClassVar[Resolution]
    RESOLUTION_ACKNOWLEDGED: _ClassVar[Resolution]
WAIT_UNSPECIFIED: Wait
WAIT_NONE: Wait
WAIT_DECIDED: Wait
WAIT_APPLIED: Wait
RESOLUTION_UNSPECIFIED: Resolution
RESOLUTION_COMMITTED: Resolution
RESOLUTION_ROLLED_BACK: Resolution
RESOLUTION_ACKNOWLEDGED: Resolution

class BranchSpec(_message.Message):
    __slots__ = ("bqual", "resource", "session", "witness_table")
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WITNESS_TABLE_FIELD_NUMBER: _ClassVar[int]
    bqual: str
    resource: str
    session: _global_pb2.Session
    witness_table: str
    def __init__(self, bqual: _Optional[str] = ..., resource: _Optional[str] = ..., session: _Optional[_Union[_global_pb2.Session, _Mapping]] = ..., witness_table: _Optional[str] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("bqual", "kind", "failure", "rolled_back", "session", "witnessed")
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WITNESSED_FIELD_NUMBER: _ClassVar[int]
    bqual: str
    kind: _global_pb2.VoteKind
    failure: _global_pb2.BranchFailure
    rolled_back: bool
    session: _global_pb2.Session
    witnessed: bool
    def __init__(self, bqual: _Optional[str] = ..., kind: _Optional[_Union[_global_pb2.VoteKind, str]] = ..., failure: _Optional[_Union[_global_pb2.BranchFailure, _Mapping]] = ..., rolled_back: bool = ..., session: _Optional[_Union[_global_pb2.Session, _Mapping]] = ..., witnessed: bool = ...) -> None: ...

class CreateGlobalRequest(_message.Message):
    __slots__ = ("gtrid", "request_id", "timeout", "policy", "expected_branches", "branches")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BRANCHES_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    request_id: str
    timeout: _duration_pb2.Duration
    policy: _global_pb2.DecisionPolicy
    expected_branches: int
    branches: _containers.RepeatedCompositeFieldContainer[BranchSpec]
    def __init__(self, gtrid: _Optional[str] = ..., request_id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., policy: _Optional[_Union[_global_pb2.DecisionPolicy, str]] = ..., expected_branches: _Optional[int] = ..., branches: _Optional[_Iterable[_Union[BranchSpec, _Mapping]]] = ...) -> None: ...

class CreateGlobalResponse(_message.Message):
    __slots__ = ()
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    def __init__(self, **kwargs) -> None: ...

class CreateBranchesRequest(_message.Message):
    __slots__ = ("gtrid", "request_id", "branches")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    request_id: str
    branches: _containers.RepeatedCompositeFieldContainer[BranchSpec]
    def __init__(self, gtrid: _Optional[str] = ..., request_id: _Optional[str] = ..., branches: _Optional[_Iterable[_Union[BranchSpec, _Mapping]]] = ...) -> None: ...

class CreateBranchesResponse(_message.Message):
    __slots__ = ("branches",)
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    branches: _containers.RepeatedCompositeFieldContainer[_global_pb2.Branch]
    def __init__(self, branches: _Optional[_Iterable[_Union[_global_pb2.Branch, _Mapping]]] = ...) -> None: ...

class PreparedRequest(_message.Message):
    __slots__ = ("gtrid", "votes", "wait")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    wait: Wait
    def __init__(self, gtrid: _Optional[str] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., wait: _Optional[_Union[Wait, str]] = ...) -> None: ...

class PreparedResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _global_pb2.GlobalStatus
    def __init__(self, status: _Optional[_Union[_global_pb2.GlobalStatus, _Mapping]] = ...) -> None: ...

class FinalizeRequest(_message.Message):
    __slots__ = ("gtrid", "decision", "votes", "wait", "reason", "create")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    decision: _global_pb2.Decision
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    wait: Wait
    reason: str
    create: NewGlobal
    def __init__(self, gtrid: _Optional[str] = ..., decision: _Optional[_Union[_global_pb2.Decision, str]] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., wait: _Optional[_Union[Wait, str]] = ..., reason: _Optional[str] = ..., create: _Optional[_Union[NewGlobal, _Mapping]] = ...) -> None: ...

class NewGlobal(_message.Message):
    __slots__ = ("branches", "age", "timeout")
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    branches: _containers.RepeatedCompositeFieldContainer[BranchSpec]
    age: _duration_pb2.Duration
    timeout: _duration_pb2.Duration
    def __init__(self, branches: _Optional[_Iterable[_Union[BranchSpec, _Mapping]]] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FinalizeResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _global_pb2.GlobalStatus
    def __init__(self, status: _Optional[_Union[_global_pb2.GlobalStatus, _Mapping]] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("gtrid", "bqual", "result", "create")
    class Result(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESULT_UNSPECIFIED: _ClassVar[Completion.Result]
        RESULT_COMMITTED: _ClassVar[Completion.Result]
        RESULT_ROLLED_BACK: _ClassVar[Completion.Result]
        RESULT_UNKNOWN: _ClassVar[Completion.Result]
    RESULT_UNSPECIFIED: Completion.Result
    RESULT_COMMITTED: Completion.Result
    RESULT_ROLLED_BACK: Completion.Result
    RESULT_UNKNOWN: Completion.Result
    GTRID_FIELD_NUMBER: _ClassVar[int]
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    bqual: str
    result: Completion.Result
    create: NewGlobal
    def __init__(self, gtrid: _Optional[str] = ..., bqual: _Optional[str] = ..., result: _Optional[_Union[Completion.Result, str]] = ..., create: _Optional[_Union[NewGlobal, _Mapping]] = ...) -> None: ...

class CompletedRequest(_message.Message):
    __slots__ = ("completions",)
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    completions: _containers.RepeatedCompositeFieldContainer[Completion]
    def __init__(self, completions: _Optional[_Iterable[_Union[Completion, _Mapping]]] = ...) -> None: ...

class CompletionResult(_message.Message):
    __slots__ = ("error", "status")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    error: _status_pb2.Status
    status: _global_pb2.GlobalStatus
    def __init__(self, error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., status: _Optional[_Union[_global_pb2.GlobalStatus, _Mapping]] = ...) -> None: ...

class CompletedResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CompletionResult]
    def __init__(self, results: _Optional[_Iterable[_Union[CompletionResult, _Mapping]]] = ...) -> None: ...

class ReserveGtridsRequest(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, resources: _Optional[_Iterable[str]] = ...) -> None: ...

class ReserveGtridsResponse(_message.Message):
    __slots__ = ("prefix", "count", "lifetime", "terms")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    count: int
    lifetime: _duration_pb2.Duration
    terms: _containers.RepeatedCompositeFieldContainer[BranchTerms]
    def __init__(self, prefix: _Optional[str] = ..., count: _Optional[int] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., terms: _Optional[_Iterable[_Union[BranchTerms, _Mapping]]] = ...) -> None: ...

class BranchTerms(_message.Message):
    __slots__ = ("resource", "witness_table", "server", "timeline")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_TABLE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    resource: str
    witness_table: str
    server: str
    timeline: int
    def __init__(self, resource: _Optional[str] = ..., witness_table: _Optional[str] = ..., server: _Optional[str] = ..., timeline: _Optional[int] = ...) -> None: ...

class ConverseRequest(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[StreamCall]
    def __init__(self, calls: _Optional[_Iterable[_Union[StreamCall, _Mapping]]] = ...) -> None: ...

class StreamCall(_message.Message):
    __slots__ = ("id", "patience", "create_global", "create_branches", "prepared", "finalize", "completed", "reserve_gtrids")
    ID_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_GLOBAL_FIELD_NUMBER: _ClassVar[int]
    CREATE_BRANCHES_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    FINALIZE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    RESERVE_GTRIDS_FIELD_NUMBER: _ClassVar[int]
    id: int
    patience: _duration_pb2.Duration
    create_global: CreateGlobalRequest
    create_branches: CreateBranchesRequest
    prepared: PreparedRequest
    finalize: FinalizeRequest
    completed: CompletedRequest
    reserve_gtrids: ReserveGtridsRequest
    def __init__(self, id: _Optional[int] = ..., patience: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., create_global: _Optional[_Union[CreateGlobalRequest, _Mapping]] = ..., create_branches: _Optional[_Union[CreateBranchesRequest, _Mapping]] = ..., prepared: _Optional[_Union[PreparedRequest, _Mapping]] = ..., finalize: _Optional[_Union[FinalizeRequest, _Mapping]] = ..., completed: _Optional[_Union[CompletedRequest, _Mapping]] = ..., reserve_gtrids: _Optional[_Union[ReserveGtridsRequest, _Mapping]] = ...) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[StreamAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[StreamAnswer, _Mapping]]] = ...) -> None: ...

class StreamAnswer(_message.Message):
    __slots__ = ("id", "error", "create_global", "create_branches", "prepared", "finalize", "completed", "reserve_gtrids")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_GLOBAL_FIELD_NUMBER: _ClassVar[int]
    CREATE_BRANCHES_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    FINALIZE_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    RESERVE_GTRIDS_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: _status_pb2.Status
    create_global: CreateGlobalResponse
    create_branches: CreateBranchesResponse
    prepared: PreparedResponse
    finalize: FinalizeResponse
    completed: CompletedResponse
    reserve_gtrids: ReserveGtridsResponse
    def __init__(self, id: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., create_global: _Optional[_Union[CreateGlobalResponse, _Mapping]] = ..., create_branches: _Optional[_Union[CreateBranchesResponse, _Mapping]] = ..., prepared: _Optional[_Union[PreparedResponse, _Mapping]] = ..., finalize: _Optional[_Union[FinalizeResponse, _Mapping]] = ..., completed: _Optional[_Union[CompletedResponse, _Mapping]] = ..., reserve_gtrids: _Optional[_Union[ReserveGtridsResponse, _Mapping]] = ...) -> None: ...

class GetGlobalRequest(_message.Message):
    __slots__ = ("gtrid",)
    GTRID_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    def __init__(self, gtrid: _Optional[str] = ...) -> None: ...

class GetGlobalResponse(_message.Message):
    __slots__ = ("outcome", "etag")
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    outcome: _global_pb2.Outcome
    etag: str
    def __init__(self, outcome: _Optional[_Union[_global_pb2.Outcome, str]] = ..., etag: _Optional[str] = ..., **kwargs) -> None: ...

class ListGlobalsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[_global_pb2.Global.State]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_global_pb2.Global.State, str]]] = ...) -> None: ...

class ListGlobalsResponse(_message.Message):
    __slots__ = ("globals", "next_page_token")
    GLOBALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    globals: _containers.RepeatedCompositeFieldContainer[_global_pb2.Global]
    next_page_token: str
    def __init__(self, globals: _Optional[_Iterable[_Union[_global_pb2.Global, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("id", "epoch", "address", "version", "load", "join_time", "last_seen_time", "alive", "resources")
    ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    JOIN_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    id: int
    epoch: int
    address: str
    version: str
    load: int
    join_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    alive: bool
    resources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., epoch: _Optional[int] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., load: _Optional[int] = ..., join_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., alive: bool = ..., resources: _Optional[_Iterable[str]] = ...) -> None: ...

class RecoverRequest(_message.Message):
    __slots__ = ("resource", "dry_run")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    resource: str
    dry_run: bool
    def __init__(self, resource: _Optional[str] = ..., dry_run: bool = ...) -> None: ...

class RecoverResponse(_message.Message):
    __slots__ = ("resources",)
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[ResourceReport]
    def __init__(self, resources: _Optional[_Iterable[_Union[ResourceReport, _Mapping]]] = ...) -> None: ...

class ResourceStatus(_message.Message):
    __slots__ = ("resource", "state", "since", "detail", "server", "server_start_time", "last_sweep_time", "next_attempt_time", "in_doubt", "ghosts")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[ResourceStatus.State]
        STATE_UNKNOWN: _ClassVar[ResourceStatus.State]
        STATE_OK: _ClassVar[ResourceStatus.State]
        STATE_UNREACHABLE: _ClassVar[ResourceStatus.State]
        STATE_QUARANTINED: _ClassVar[ResourceStatus.State]
    STATE_UNSPECIFIED: ResourceStatus.State
    STATE_UNKNOWN: ResourceStatus.State
    STATE_OK: ResourceStatus.State
    STATE_UNREACHABLE: ResourceStatus.State
    STATE_QUARANTINED: ResourceStatus.State
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    SERVER_START_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SWEEP_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_TIME_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    GHOSTS_FIELD_NUMBER: _ClassVar[int]
    resource: str
    state: ResourceStatus.State
    since: _timestamp_pb2.Timestamp
    detail: str
    server: str
    server_start_time: _timestamp_pb2.Timestamp
    last_sweep_time: _timestamp_pb2.Timestamp
    next_attempt_time: _timestamp_pb2.Timestamp
    in_doubt: int
    ghosts: int
    def __init__(self, resource: _Optional[str] = ..., state: _Optional[_Union[ResourceStatus.State, str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., detail: _Optional[str] = ..., server: _Optional[str] = ..., server_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_sweep_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_attempt_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., in_doubt: _Optional[int] = ..., ghosts: _Optional[int] = ...) -> None: ...

class ResourceReport(_message.Message):
    __slots__ = ("status", "xids", "xids_omitted", "ghosts", "lock_waits")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    XIDS_FIELD_NUMBER: _ClassVar[int]
    XIDS_OMITTED_FIELD_NUMBER: _ClassVar[int]
    GHOSTS_FIELD_NUMBER: _ClassVar[int]
    LOCK_WAITS_FIELD_NUMBER: _ClassVar[int]
    status: ResourceStatus
    xids: _containers.RepeatedCompositeFieldContainer[XidReport]
    xids_omitted: int
    ghosts: int
    lock_waits: _containers.RepeatedCompositeFieldContainer[LockWait]
    def __init__(self, status: _Optional[_Union[ResourceStatus, _Mapping]] = ..., xids: _Optional[_Iterable[_Union[XidReport, _Mapping]]] = ..., xids_omitted: _Optional[int] = ..., ghosts: _Optional[int] = ..., lock_waits: _Optional[_Iterable[_Union[LockWait, _Mapping]]] = ...) -> None: ...

class XidReport(_message.Message):
    __slots__ = ("format_id", "gtrid", "bqual", "kind", "state", "decision", "evidence", "action")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[XidReport.Kind]
        KIND_OURS: _ClassVar[XidReport.Kind]
        KIND_ORPHAN: _ClassVar[XidReport.Kind]
        KIND_FOREIGN: _ClassVar[XidReport.Kind]
    KIND_UNSPECIFIED: XidReport.Kind
    KIND_OURS: XidReport.Kind
    KIND_ORPHAN: XidReport.Kind
    KIND_FOREIGN: XidReport.Kind
    FORMAT_ID_FIELD_NUMBER: _ClassVar[int]
    GTRID_FIELD_NUMBER: _ClassVar[int]
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    format_id: int
    gtrid: str
    bqual: str
    kind: XidReport.Kind
    state: _global_pb2.Global.State
    decision: _global_pb2.Decision
    evidence: _global_pb2.Evidence
    action: str
    def __init__(self, format_id: _Optional[int] = ..., gtrid: _Optional[str] = ..., bqual: _Optional[str] = ..., kind: _Optional[_Union[XidReport.Kind, str]] = ..., state: _Optional[_Union[_global_pb2.Global.State, str]] = ..., decision: _Optional[_Union[_global_pb2.Decision, str]] = ..., evidence: _Optional[_Union[_global_pb2.Evidence, _Mapping]] = ..., action: _Optional[str] = ...) -> None: ...

class LockWait(_message.Message):
    __slots__ = ("waiting_connection_id", "waiting_user", "waited", "table", "index", "blocking_connection_id", "gtrid", "bqual")
    WAITING_CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    WAITING_USER_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    BLOCKING_CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    GTRID_FIELD_NUMBER: _ClassVar[int]
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    waiting_connection_id: int
    waiting_user: str
    waited: _duration_pb2.Duration
    table: str
    index: str
    blocking_connection_id: int
    gtrid: str
    bqual: str
    def __init__(self, waiting_connection_id: _Optional[int] = ..., waiting_user: _Optional[str] = ..., waited: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., table: _Optional[str] = ..., index: _Optional[str] = ..., blocking_connection_id: _Optional[int] = ..., gtrid: _Optional[str] = ..., bqual: _Optional[str] = ...) -> None: ...

class ListInDoubtRequest(_message.Message):
    __slots__ = ("resource", "page_size", "page_token", "with_locks")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITH_LOCKS_FIELD_NUMBER: _ClassVar[int]
    resource: str
    page_size: int
    page_token: str
    with_locks: bool
    def __init__(self, resource: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., with_locks: bool = ...) -> None: ...

class InDoubtBranch(_message.Message):
    __slots__ = ("gtrid", "branch", "state", "decision", "since", "attempts", "next_attempt_time", "next_step", "alarm")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    branch: _global_pb2.Branch
    state: _global_pb2.Global.State
    decision: _global_pb2.Decision
    since: _timestamp_pb2.Timestamp
    attempts: int
    next_attempt_time: _timestamp_pb2.Timestamp
    next_step: str
    alarm: bool
    def __init__(self, gtrid: _Optional[str] = ..., branch: _Optional[_Union[_global_pb2.Branch, _Mapping]] = ..., state: _Optional[_Union[_global_pb2.Global.State, str]] = ..., decision: _Optional[_Union[_global_pb2.Decision, str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[int] = ..., next_attempt_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_step: _Optional[str] = ..., alarm: bool = ...) -> None: ...

class ListInDoubtResponse(_message.Message):
    __slots__ = ("branches", "next_page_token", "resources", "lock_waits", "locks_unknown")
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    LOCK_WAITS_FIELD_NUMBER: _ClassVar[int]
    LOCKS_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    branches: _containers.RepeatedCompositeFieldContainer[InDoubtBranch]
    next_page_token: str
    resources: _containers.RepeatedCompositeFieldContainer[ResourceStatus]
    lock_waits: _containers.RepeatedCompositeFieldContainer[LockWait]
    locks_unknown: _containers.RepeatedCompositeFieldContainer[LocksUnknown]
    def __init__(self, branches: _Optional[_Iterable[_Union[InDoubtBranch, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., resources: _Optional[_Iterable[_Union[ResourceStatus, _Mapping]]] = ..., lock_waits: _Optional[_Iterable[_Union[LockWait, _Mapping]]] = ..., locks_unknown: _Optional[_Iterable[_Union[LocksUnknown, _Mapping]]] = ...) -> None: ...

class LocksUnknown(_message.Message):
    __slots__ = ("resource", "detail")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    resource: str
    detail: str
    def __init__(self, resource: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class RetryNowRequest(_message.Message):
    __slots__ = ("gtrid", "resource")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    resource: str
    def __init__(self, gtrid: _Optional[str] = ..., resource: _Optional[str] = ...) -> None: ...

class RetryNowResponse(_message.Message):
    __slots__ = ("branches",)
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    branches: int
    def __init__(self, branches: _Optional[int] = ...) -> None: ...

class ResolveBranchRequest(_message.Message):
    __slots__ = ("gtrid", "bqual", "resolution", "reason", "etag", "validate_only")
    GTRID_FIELD_NUMBER: _ClassVar[int]
    BQUAL_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    gtrid: str
    bqual: str
    resolution: Resolution
    reason: str
    etag: str
    validate_only: bool
    def __init__(self, gtrid: _Optional[str] = ..., bqual: _Optional[str] = ..., resolution: _Optional[_Union[Resolution, str]] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ..., validate_only: bool = ...) -> None: ...

class ResolveBranchResponse(_message.Message):
    __slots__ = ("evidence", "etag")
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    evidence: _global_pb2.Evidence
    etag: str
    def __init__(self, evidence: _Optional[_Union[_global_pb2.Evidence, _Mapping]] = ..., etag: _Optional[str] = ..., **kwargs) -> None: ...
