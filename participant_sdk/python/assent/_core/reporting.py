"""What becomes of reported completions, without I/O: completion_reporter.cc."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence

from assent.errors import AssentError, from_rpc_status, is_retryable
from assent.v1 import coordinator_service_pb2 as pb

logger = logging.getLogger("assent")

MAX_BATCH = 1000
MAX_BATCH_BYTES = 1 << 20
"""The same in bytes, for those that bring their transaction; gRPC takes four times as much in one message."""
MAX_WAITING = 100_000
"""Reports that may wait while the coordinator is away; reporting blocks beyond it."""
ATTEMPT = 2.0
"""Seconds that a batch is offered before newer ones join it in the next attempt."""
PAUSE = 0.05
"""Between a refusal that asks for a repetition and that."""
LINGER = 0.02
"""After the first report, for others to join it, as long as nobody waits for any of them: it saves calls."""
FLUSH_PATIENCE = 5.0


class ReportQueue:
    """The completions that wait, in order. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[pb.Completion, float]] = deque()
        """Each with the moment when its `create.age` was true."""
        self.reported = 0
        self.answered = 0
        self.awaited = 0
        """Of those reported, how many (the first ones) somebody may wait for."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def may_linger(self) -> bool:
        """Tell whether what is there may wait for more."""
        return self.awaited <= self.answered and len(self._waiting) < MAX_BATCH

    def add(self, completions: Sequence[pb.Completion], awaited: bool) -> None:
        """Append; those of one transaction travel together."""
        now = time.monotonic()
        self._waiting.extend((completion, now) for completion in completions)
        self.reported += len(completions)
        if awaited:
            self.hurry()

    def hurry(self) -> int:
        """From now on somebody waits for all that was reported so far: until `answered` is what this returns."""
        self.awaited = self.reported
        return self.awaited

    def batch(self) -> pb.CompletedRequest:
        """Return what to offer next, as old as it is now; it stays until `take`."""
        request = pb.CompletedRequest()
        now = time.monotonic()
        size = 0
        for completion, since in self._waiting:
            size += completion.ByteSize()
            if len(request.completions) >= MAX_BATCH or (request.completions and size > MAX_BATCH_BYTES):
                break
            offered = request.completions.add()
            offered.CopyFrom(completion)
            if completion.HasField("create"):
                # However long the coordinator is away, its branch must not look younger than it is.
                age = completion.create.age.ToMicroseconds() + int((now - since) * 1e6)
                offered.create.age.FromMicroseconds(age)
        return request

    def take(self, batch: pb.CompletedRequest, answer: pb.CompletedResponse | AssentError) -> bool:
        """Take the answer; True if something must be offered again after a pause."""
        if isinstance(answer, AssentError):
            logger.warning("%d completions not reported yet: %s", len(batch.completions), answer)
            if is_retryable(answer):
                return True
            answer = pb.CompletedResponse()  # A batch that is refused as a whole would be refused for ever.
        again = []
        for index, (completion, result) in enumerate(zip(batch.completions, answer.results, strict=False)):
            if not result.HasField("error"):
                continue
            error = from_rpc_status(result.error)
            if is_retryable(error):  # The coordinator is going down, or its store is away: its word is "repeat".
                again.append(index)
                continue
            logger.error(
                "gtrid=%s bqual=%s completion %s refused: %s",
                completion.gtrid,
                completion.bqual,
                pb.Completion.Result.Name(completion.result),
                error,
            )
        offered = [self._waiting.popleft() for _ in batch.completions]
        self._waiting.extendleft(offered[index] for index in reversed(again))
        self.answered += len(batch.completions) - len(again)
        return bool(again)
