from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KillAfterLease(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KILL_AFTER_LEASE_UNSPECIFIED: _ClassVar[KillAfterLease]
    KILL_AFTER_LEASE_ENABLED: _ClassVar[KillAfterLease]
    KILL_AFTER_LEASE_DISABLED: _ClassVar[KillAfterLease]

class Witness(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WITNESS_UNSPECIFIED: _ClassVar[Witness]
    WITNESS_ENABLED: _ClassVar[Witness]
    WITNESS_DISABLED: _ClassVar[Witness]
KILL_AFTER_LEASE_UNSPECIFIED: KillAfterLease
KILL_AFTER_LEASE_ENABLED: KillAfterLease
KILL_AFTER_LEASE_DISABLED: KillAfterLease
WITNESS_UNSPECIFIED: Witness
WITNESS_ENABLED: Witness
WITNESS_DISABLED: Witness

class Resource(_message.Message):
    __slots__ = ("name", "engine", "address", "user", "password_env", "password_file", "witness", "witness_schema", "create_time", "update_time", "participant_address", "lease", "kill_after_lease", "orphan_age", "server", "epoch", "next_epoch", "database", "timeline", "accept_time")
    class Engine(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENGINE_UNSPECIFIED: _ClassVar[Resource.Engine]
        ENGINE_MARIADB: _ClassVar[Resource.Engine]
        ENGINE_MYSQL: _ClassVar[Resource.Engine]
        ENGINE_POSTGRESQL: _ClassVar[Resource.Engine]
    ENGINE_UNSPECIFIED: Resource.Engine
    ENGINE_MARIADB: Resource.Engine
    ENGINE_MYSQL: Resource.Engine
    ENGINE_POSTGRESQL: Resource.Engine
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_ENV_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FILE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    WITNESS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KILL_AFTER_LEASE_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_AGE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEXT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    engine: Resource.Engine
    address: str
    user: str
    password_env: str
    password_file: str
    witness: Witness
    witness_schema: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    participant_address: str
    lease: _duration_pb2.Duration
    kill_after_lease: KillAfterLease
    orphan_age: _duration_pb2.Duration
    server: str
    epoch: int
    next_epoch: int
    database: str
    timeline: int
    accept_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., engine: _Optional[_Union[Resource.Engine, str]] = ..., address: _Optional[str] = ..., user: _Optional[str] = ..., password_env: _Optional[str] = ..., password_file: _Optional[str] = ..., witness: _Optional[_Union[Witness, str]] = ..., witness_schema: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., participant_address: _Optional[str] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., kill_after_lease: _Optional[_Union[KillAfterLease, str]] = ..., orphan_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., server: _Optional[str] = ..., epoch: _Optional[int] = ..., next_epoch: _Optional[int] = ..., database: _Optional[str] = ..., timeline: _Optional[int] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RegisterResourceRequest(_message.Message):
    __slots__ = ("resource", "replace", "allow_unreachable", "accept_server", "take_over")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_SERVER_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    resource: Resource
    replace: bool
    allow_unreachable: bool
    accept_server: bool
    take_over: bool
    def __init__(self, resource: _Optional[_Union[Resource, _Mapping]] = ..., replace: bool = ..., allow_unreachable: bool = ..., accept_server: bool = ..., take_over: bool = ...) -> None: ...

class RegisterResourceResponse(_message.Message):
    __slots__ = ("resource", "findings")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    resource: Resource
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, resource: _Optional[_Union[Resource, _Mapping]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class GetResourceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetResourceResponse(_message.Message):
    __slots__ = ("resource",)
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    resource: Resource
    def __init__(self, resource: _Optional[_Union[Resource, _Mapping]] = ...) -> None: ...

class ListResourcesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResourcesResponse(_message.Message):
    __slots__ = ("resources", "next_page_token")
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[Resource]
    next_page_token: str
    def __init__(self, resources: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CheckResourceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("check", "severity", "detail", "remedy")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[Finding.Severity]
        SEVERITY_OK: _ClassVar[Finding.Severity]
        SEVERITY_WARNING: _ClassVar[Finding.Severity]
        SEVERITY_ERROR: _ClassVar[Finding.Severity]
    SEVERITY_UNSPECIFIED: Finding.Severity
    SEVERITY_OK: Finding.Severity
    SEVERITY_WARNING: Finding.Severity
    SEVERITY_ERROR: Finding.Severity
    CHECK_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    check: str
    severity: Finding.Severity
    detail: str
    remedy: str
    def __init__(self, check: _Optional[str] = ..., severity: _Optional[_Union[Finding.Severity, str]] = ..., detail: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class CheckResourceResponse(_message.Message):
    __slots__ = ("findings",)
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class RemoveResourceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveResourceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
