"""The exception for errors that the user can correct."""


class InputError(ValueError):
    """A file, a row or a setting is wrong.

    The message says which file or key, what was found, what was expected and what to do. Commands print it without a
    traceback.
    """
