"""The error that the recorder raises."""


class RecordError(Exception):
    """The model cannot be recorded as asked; the message says what, where and what mends it."""
