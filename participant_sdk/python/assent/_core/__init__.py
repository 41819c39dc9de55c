"""The protocol without I/O: what to say to databases and coordinator, and what their answers prove.

Everything here is either pure or a generator that yields effects (effects.py) and is sent their results. The sync and
the asyncio client run the same generators; no decision is taken twice.
"""
