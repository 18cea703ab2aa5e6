"""Where tables and lines are printed: whole, whatever characters they have."""

from rich.console import Console


def terminal() -> Console:
    """Rich's console, which prints brackets and colons as they are: in names and paths they are no
    markup."""
    return Console(markup=False, emoji=False)
