"""The package's one exception: what the caller asked for cannot be done, and why."""


class ColaWorldError(ValueError):
    """Bad input from the caller: one sentence that says what is wrong and what to do."""


LONGEST = 200
"""Characters of another library's message, which may quote all of a damaged file."""


def in_short(error: BaseException) -> str:
    """What an error of another library says, on one line."""
    told = " ".join(str(error).split())
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}..."
