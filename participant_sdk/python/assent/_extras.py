"""The extras: libraries that only some modules need."""

from __future__ import annotations


def missing(module: str, library: str, extra: str, cause: ImportError) -> ImportError:
    """Return what such a module raises when it is imported without its library."""
    error = ImportError(
        f"{module} needs {library}, which could not be imported ({cause}): in a clone of Assent, "
        f"pip install './participant_sdk/python[{extra}]'"
    )
    error.__cause__ = cause
    return error
