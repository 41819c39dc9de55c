"""aiomysql and asyncmy. Both let applications send several statements at once, always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assent._core.effects import Answer
from assent._drivers.mysql_common import IN_TRANSACTION, MySqlWire


class AsyncMySqlWire(MySqlWire):
    """Either of them: they share their ancestor's names."""

    batches = True
    merges = True

    @property
    def lost(self) -> bool:
        """See Wire."""
        return self._lost or self._writer() is None

    def _writer(self) -> Any:
        return self.connection._writer

    def identity(self) -> object:
        """See Wire."""
        return None if self.lost else self.connection.server_thread_id[0]

    def in_transaction(self) -> bool | None:
        """See Wire."""
        return bool(self.connection.server_status & IN_TRANSACTION)

    def fileno(self) -> int:
        """See Wire."""
        if self.lost:
            return -1
        socket = self._writer().get_extra_info("socket")
        return -1 if socket is None else int(socket.fileno())

    async def exchange(self, statements: Sequence[str]) -> Answer:
        """Send and read."""
        answer = Answer()
        connection = self.connection
        try:
            await connection.query(";".join(statements))
            while True:
                result = connection._result
                rows = result.rows
                answer.rows.append(tuple(rows[0]) if rows else None)
                if not result.has_next:
                    break
                await connection.next_result()
        except Exception as error:
            answer.error = self.broken(error)
        return answer


class AsyncmyWire(AsyncMySqlWire):
    """asyncmy: its transport lives elsewhere."""

    def _writer(self) -> Any:
        return getattr(self.connection, "_transport", None) or getattr(self.connection, "_writer", None)
