"""The errors that the recorder raises."""


class RecordError(Exception):
    """The model cannot be recorded as asked; the message says what, where and what mends it."""


class MissingWeightsError(RecordError):
    """A checkpoint lacks weights of the model, maybe because it names them differently."""
