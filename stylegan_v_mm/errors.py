"""The exception for errors that a user can fix, and help with its message."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb


class InputError(ValueError):
    """Bad input: a path, a video, a config value, a checkpoint, ...

    The message names the cause and says what to do. The tools print only the
    message, without a traceback, and end with status 2.
    """


def check_at_least(least: float, where: str, **values: float | None) -> None:
    """Check that values are at least a bound.

    Args:
        least (float): The bound.
        where (str): What the values belong to, for the message.
        values (float, optional): The values, by name; None is not checked.

    Raises:
        InputError: A value is too small.
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise InputError(
                f'{where}.{name}={value} must be at least {least}'
            )


def check_choice(where: str, choices: Iterable[str], **values: str) -> None:
    """Check that values are among the choices.

    Args:
        where (str): What the values belong to, for the message.
        choices (iterable): The valid values.
        values (str): By their names.

    Raises:
        InputError: Names the first that is not.
    """
    for name, value in values.items():
        if value not in choices:
            raise InputError(
                f'{where}.{name}={value!r}: choose one of {", ".join(choices)}'
            )


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """Rephrase mmengine's and torch's errors about values of a config.

    Args:
        where (str): Part of the config that is being built, for the message.

    Raises:
        InputError: mmengine or torch raise an error in the ``with`` block.
    """
    try:
        yield
    except InputError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        ours = frame.f_globals['__name__'].startswith('stylegan_v_mm')
        # A class of ours hands arguments on to its parent.
        if ours and ' missing ' not in str(error):
            raise  # A defect of ours.
        reason = ' '.join(str(error).split()) or 'a value is out of range'
        raise InputError(f'{where}: {reason}') from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the valid name that was probably meant, for a message.

    Args:
        name (str): A wrong name.
        known (iterable): The valid names.

    Returns:
        str: ``"; did you mean 'NAME'?"``, or '' if no name is similar.
    """
    match = difflib.get_close_matches(name, known, 1)
    return f'; did you mean {match[0]!r}?' if match else ''
