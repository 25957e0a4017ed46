"""The one exception for what the person at the keyboard can mend."""


class InputError(ValueError):
    """A file, a row or a setting that is not as it must be.

    The message names the file (or key), what was found, what was expected and what to do; the commands
    print it without a traceback.
    """
