"""What a check finds."""

from typing import NamedTuple


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        name (str): What was checked.
        status (str): 'ok', 'warn' or 'fail'.
        text (str): What is the case.
        advice (str): What to do about it, '' for nothing.
    """

    name: str
    status: str
    text: str
    advice: str = ''
