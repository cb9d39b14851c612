"""What people see while a verb works. Everything here goes to stderr; stdout belongs to the result."""

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Print one line of progress."""
    console.print(line, markup=False)
