"""What can be said of a statement by looking at it. Whatever is not recognised counts as one that writes."""

from __future__ import annotations

import re

# Statements that may be of a branch that writes nothing: the server is asked before that is believed.
_MAY_ONLY_READ = re.compile(
    r"(?:\s|\(|--[^\n]*\n|\#[^\n]*\n|/\*[^!M].*?\*/)*(?:SELECT|SHOW|DESCRIBE|DESC|EXPLAIN|VALUES)\b",
    re.IGNORECASE | re.DOTALL,
)
# Locks that must last until the decision, files, variables' side effects, and what may hide a second statement.
_DOES_MORE = re.compile(r"\bFOR\s+UPDATE\b|\bSHARE\b|\bINTO\b|;\s*\S", re.IGNORECASE)


def may_only_read(sql: str | bytes) -> bool:
    """Tell whether the statement is one that usually writes nothing and locks nothing."""
    text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql
    return bool(_MAY_ONLY_READ.match(text)) and not _DOES_MORE.search(text)
