"""The package's one exception: what the caller asked for cannot be done, and why."""


class ColaWorldError(ValueError):
    """Bad input from the caller: one sentence that says what is wrong and what to do."""
