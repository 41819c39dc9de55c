"""The drivers: how the core's batches travel over each kind of connection."""
