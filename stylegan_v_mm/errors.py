"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input: a path, a video, a config value, a checkpoint, ...

    The message names the culprit and says what to do. The tools print it
    alone, without a traceback, and end with status 2.
    """
