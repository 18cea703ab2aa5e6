"""The package's one exception: what the caller asked for cannot be done, and why."""


class ColaWorldError(ValueError):
    """Bad input from the caller: one sentence that says what is wrong and what to do."""


def check_setting(name: str, value: object, right: bool, wanted: str) -> None:
    """Raises ColaWorldError, which names the setting and what it must be, unless it is `right`."""
    if not right:
        raise ColaWorldError(f"{name}={value} must be {wanted}.")


LONGEST = 200
"""Characters of another library's message, which may quote all of a damaged file."""


def in_short(error: BaseException) -> str:
    """What an error of another library says, on one line."""
    told = " ".join(str(error).split())
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}..."
