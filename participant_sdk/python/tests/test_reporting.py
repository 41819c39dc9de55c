"""What becomes of reported completions: the queue, without a coordinator."""

from assent._core.reporting import MAX_BATCH, ReportQueue
from assent.errors import Reason, make_error
from assent.v1 import coordinator_service_pb2 as pb


def completions(*bquals):
    return [pb.Completion(gtrid="g", bqual=bqual, result=pb.Completion.RESULT_COMMITTED) for bqual in bquals]


def bquals(batch):
    return [each.bqual for each in batch.completions]


def test_what_somebody_waits_for_takes_the_others_along_at_once():
    queue = ReportQueue()
    queue.add(completions("a"), awaited=False)
    assert queue.may_linger
    queue.add(completions("b"), awaited=True)
    queue.add(completions("c"), awaited=False)
    assert not queue.may_linger
    batch = queue.batch()
    assert bquals(batch) == ["a", "b", "c"]
    assert not queue.take(batch, pb.CompletedResponse(results=[pb.CompletionResult()] * 3))
    assert queue.answered == queue.reported == 3
    queue.add(completions("d"), awaited=False)
    assert queue.may_linger
    assert queue.hurry() == 4
    assert not queue.may_linger


def test_a_full_batch_does_not_wait():
    queue = ReportQueue()
    queue.add(completions(*map(str, range(MAX_BATCH))), awaited=False)
    assert not queue.may_linger


def test_what_may_be_repeated_is_offered_again_in_its_order():
    queue = ReportQueue()
    queue.add(completions("a", "b", "c"), awaited=False)
    away = make_error(Reason.STORE_UNAVAILABLE, "away")
    assert queue.take(queue.batch(), away)
    batch = queue.batch()
    assert bquals(batch) == ["a", "b", "c"]
    answer = pb.CompletedResponse(results=[pb.CompletionResult() for _ in range(3)])
    answer.results[1].error.code = 14  # UNAVAILABLE
    queue.add(completions("d"), awaited=False)
    assert queue.take(batch, answer)
    assert bquals(queue.batch()) == ["b", "d"]
    assert queue.answered == 2


def test_a_batch_that_is_refused_as_a_whole_does_not_hold_up_the_next():
    queue = ReportQueue()
    queue.add(completions("a"), awaited=False)
    batch = queue.batch()
    queue.add(completions("b"), awaited=False)
    assert not queue.take(batch, make_error(Reason.INVALID_FIELD, "never"))
    assert bquals(queue.batch()) == ["b"]
    assert queue.answered == 1
