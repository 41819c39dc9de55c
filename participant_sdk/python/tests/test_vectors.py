"""One behaviour, three languages: the file of test vectors that every SDK's tests read."""

import inspect
import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import pytest

import assent
from assent import _core, propagation, xid
from assent._core import calls, one_phase, reporting, two_phase
from assent._core.outcome import DbError, Outcome, Verb, is_connection_lost, outcome_of, postgres_outcome_of
from assent._core.session import WitnessTable, wrong_server
from assent._core.transaction import SCOPE_PATIENCE
from assent._core.verdict import verdict_of
from assent.errors import AssentError, Code, Reason, from_rpc_status, make_error
from assent.v1 import coordinator_service_pb2 as pb
from assent.v1 import global_pb2 as gpb

FOLDER = Path(__file__).parents[2]
FILE = FOLDER / "vectors.json"
VECTORS = json.loads(FILE.read_text()) if FILE.exists() else {}
needs_vectors = pytest.mark.skipif(not VECTORS, reason=f"{FILE} is missing: it comes with the Go SDK")
REPOSITORY = FOLDER.parent


def test_the_reasons_are_those_of_the_cpp_sdk():
    """base/errors.h is the list."""
    text = (REPOSITORY / "base/errors.h").read_text()
    rows = re.findall(r"X\((\w+), k(\w+), k(\w+)\)", text)
    assert len(rows) > 50
    assert [name for name, _, _ in rows] == list(Reason.__members__)
    for name, code, retry in rows:
        reason = Reason[name]
        assert reason.code.name.replace("_", "") == code.upper()
        assert reason.retry.name.replace("_", "") == retry.upper()


def test_the_generated_code_is_current(tmp_path):
    here = FOLDER / "python"
    subprocess.run([here / "generate", tmp_path], check=True)
    made = sorted(path.name for path in (tmp_path / "assent/v1").iterdir())
    assert made == sorted(path.name for path in (here / "assent/v1").iterdir() if path.suffix in (".py", ".pyi"))
    for name in made:
        assert (tmp_path / "assent/v1" / name).read_text() == (here / "assent/v1" / name).read_text(), name


def test_the_command_of_the_documentation_generates_it(tmp_path):
    """With the interpreter of `generate`, which has grpc_tools; in a folder that has what it reads."""
    (line,) = re.findall(r"`python (-m grpc_tools\.protoc .*?)`", (REPOSITORY / "docs/clients.md").read_text())
    subprocess.run([FOLDER / "python/generate", tmp_path / "other"], check=True)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    tools = re.search(r"grpcio-tools==(\S+)", (FOLDER / "python/generate").read_text())[1]
    for name in ("protos", "third_party"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    python = cache / f"assent/generate-{tools}/bin/python"
    subprocess.run(f"{python} -W ignore {line}", shell=True, check=True, cwd=tmp_path)
    made = {path.name for path in (tmp_path / "assent/v1").iterdir()}
    assert {"global_pb2.py", "coordinator_service_pb2_grpc.py", "resource_service_pb2_grpc.py"} <= made


@needs_vectors
def test_addresses():
    for addresses in VECTORS["addresses"]["valid"]:
        calls.Instances(addresses)
    for addresses in VECTORS["addresses"]["invalid"]:
        with pytest.raises(assent.InvalidRequest) as refused:
            calls.Instances(addresses)
        assert refused.value.metadata == {"field": "addresses"}


@needs_vectors
def test_metadata_and_defaults():
    assert VECTORS["metadata"] == {
        "grpc_gtrid": propagation.GRPC_GTRID,
        "grpc_traceparent": propagation.GRPC_TRACEPARENT,
        "http_gtrid": propagation.HTTP_GTRID,
        "http_traceparent": propagation.HTTP_TRACEPARENT,
        "error_domain": assent.errors.DOMAIN,
    }
    options, begin = assent.ClientOptions(), assent.BeginOptions()
    transaction = inspect.getsource(_core.transaction)
    ours = {
        "call_patience_ms": options.call_patience * 1000,
        "decision_patience_ms": options.decision_patience * 1000,
        "rollback_at_end_of_scope_ms": SCOPE_PATIENCE * 1000,
        "attempt_ms": calls.ATTEMPT * 1000,
        "attempt_of_several_ms": calls.ATTEMPT_OF_SEVERAL * 1000,
        "first_pause_ms": calls._FIRST_PAUSE * 1000,
        "max_pause_ms": calls._MAX_PAUSE * 1000,
        "finish_retry_pause_ms": two_phase._RETRY_PAUSE * 1000,
        "completions_per_call": reporting.MAX_BATCH,
        "completions_waiting": reporting.MAX_WAITING,
        "completion_attempt_ms": reporting.ATTEMPT * 1000,
        "completion_pause_ms": reporting.PAUSE * 1000,
        "flush_at_close_ms": reporting.FLUSH_PATIENCE * 1000,
        "max_failure_bytes": two_phase._MAX_FAILURE_BYTES,
        "max_reason_bytes": _core.transaction._MAX_REASON_BYTES,
        "max_branches": _core.transaction._MAX_SOLE_BRANCHES,
        "policy": f"DECISION_POLICY_{begin.policy.name}",
        "sole_participant": begin.sole_participant,
        "one_phase_commit": begin.one_phase_commit,
        "tell_pause_ms": one_phase._TELL_PAUSE * 1000,
        "age_holds_ms": _core.reservation.AGE_HOLDS * 1000,
    }
    for name, value in ours.items():
        assert VECTORS["defaults"][name] == value, name
    for text in ("rollback_reason", "scope_reason"):
        assert VECTORS["defaults"][text] in transaction


@needs_vectors
def test_ids():
    assert VECTORS["format_id"] == xid.FORMAT_ID
    assert VECTORS["max_id_bytes"] == xid.MAX_ID_BYTES
    for valid in VECTORS["ids"]["valid"]:
        assert xid.check_gtrid(valid) is None
        assert xid.check_bqual(valid) is None
    for invalid in VECTORS["ids"]["invalid"]:
        error = xid.check_gtrid(bytes.fromhex(invalid["hex"]).decode("utf-8", "surrogateescape"))
        assert error.metadata["problem"] == invalid["problem"]
    for each in VECTORS["xids"]:
        name = xid.Xid(each["gtrid"], each["bqual"])
        assert xid.xid_sql_literal(name).lower() == each["sql"].lower()
        assert xid.gid_of(name) == each["gid"]
        assert xid.branch_lock_of(name) == each["advisory_lock"]
        assert WitnessTable("assent", "witness").insert_sql(name).lower() == each["witness_insert"].lower()
    for each in VECTORS["births"]:
        assert xid.birth_of(each["gtrid"]) == each["unix_ms"]
    for gtrid in VECTORS["without_birth"]:
        assert xid.birth_of(gtrid) is None, gtrid
    for each in VECTORS["blocks"]:
        assert xid.gtrid_of_block(each["prefix"], each["index"]) == each["gtrid"]
    for each in VECTORS["witness_tables"]["valid"]:
        table = WitnessTable.parse(each["name"])
        assert f"`{table.schema}`.`{table.table}`" == each["quoted"]
    for name in VECTORS["witness_tables"]["invalid"]:
        with pytest.raises(assent.InvalidRequest):
            WitnessTable.parse(name)
    for each in VECTORS["witness_refusals"]:
        assert WitnessTable.parse(each["table"]).why_refused(each["error_code"]) == each["why"]


@needs_vectors
def test_reasons_and_what_they_mean_for_the_decision():
    assert [each["reason"] for each in VECTORS["reasons"]] == list(Reason.__members__)
    for each in VECTORS["reasons"]:
        reason = Reason[each["reason"]]
        assert reason.code.name == each["code"]
        assert reason.retry.value == each["retry"]
        assert reason.is_refused_by_itself == ("refused_by_itself" in each)
        error = make_error(reason, "")
        decision = gpb.Decision.Name(verdict_of(error).decision).removeprefix("DECISION_")
        counted = "NOT_COUNTED" if reason in (Reason.BRANCHES_NOT_PREPARED, Reason.WRONG_SERVER) else None
        assert (counted or decision.replace("UNSPECIFIED", "UNKNOWN")) == each["verdict"], reason
        is_aborted = isinstance(error, assent.Aborted)
        outcome = "in doubt" if isinstance(error, assent.OutcomeInDoubt) else "rolled back" if is_aborted else "open"
        if reason is not Reason.ETAG_MISMATCH:  # Of operators' calls alone.
            assert outcome == each["outcome"], reason


@needs_vectors
def test_whether_doing_it_again_helps():
    for each in VECTORS["retry_advice"]:
        assert make_error(Reason[each["reason"]], "", each["metadata"]).retry.value == each["retry"], each


@needs_vectors
def test_when_a_call_is_repeated():
    from google.rpc import error_details_pb2, status_pb2

    for each in VECTORS["attempts"]:
        status = status_pb2.Status(code=Code[each["code"]])
        if each["reason"]:
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason=each["reason"], domain="assent.v1"))
        error = from_rpc_status(status)
        assert calls.may_repeat(error) == each["repeat"], each
        assert (calls.may_repeat(error) and calls.is_away(error)) == each["next_instance"], each


@needs_vectors
def test_verdicts_and_waits():
    for each in VECTORS["verdicts"]:
        status = gpb.GlobalStatus(gtrid="g", decision=each["decision"], state=each["state"], cause=each["cause"])
        verdict = verdict_of(status)
        name = gpb.Decision.Name(verdict.decision).removeprefix("DECISION_").replace("UNSPECIFIED", "UNKNOWN")
        assert name == each["verdict"]
        assert (verdict.why.reason.name if verdict.why else "") == each["reason"]
    for each in VECTORS["waits"]:
        status = gpb.GlobalStatus(state=each["state"], decision=each["decision"], outcome=each["outcome"])
        assert calls.is_wait_over(pb.Wait.Value(each["wait"]), status) == each["over"], each


@needs_vectors
def test_what_databases_answer():
    for each in VECTORS["mysql_outcomes"]:
        assert outcome_of(Verb[each["verb"].replace(" ", "_")], each["code"]).name == each["outcome"], each
    for each in VECTORS["postgres_outcomes"]:
        error = DbError(each.get("code", 0), each["sqlstate"], "" if each["outcome"] == "OK" else "refused")
        assert postgres_outcome_of(Verb[each["verb"]], error).name == each["outcome"], each
    for code in VECTORS["mysql_connection_lost"]:
        assert is_connection_lost(code), code
    for code in VECTORS["mysql_connection_kept"]:
        assert not is_connection_lost(code), code
    for each in VECTORS["proves_rolled_back"]:
        outcome = Outcome[each["outcome"]]
        assert two_phase.proves_rolled_back(outcome, each["detaches"], each["prepare_was_sent"]) == each["proven"], each
    for each in VECTORS["finish"]:
        found = two_phase.finished_by(each["decision"] == "COMMIT", Outcome[each["outcome"]], each["detaches"])
        assert found.name == each["result"], each


@needs_vectors
def test_servers():
    for each in VECTORS["servers"]:
        session = gpb.Session(server=each["session_server"], timeline=each["session_timeline"])
        assert (wrong_server(session, "r", each["server"], each["timeline"]) is None) == each["ok"], each


@pytest.mark.parametrize("kind", assent.errors._all_classes(AssentError), ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind):
    for error in (kind("why", metadata={"gtrid": "g"}), kind("why", code=Code.NOT_FOUND)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.reason, again.code, again.metadata, str(again)) == (
            kind, error.reason, error.code, error.metadata, str(error)
        )  # fmt: skip
