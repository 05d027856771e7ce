"""The exception for errors that a user can fix."""


class InputError(Exception):
    """An error that a user can cause and fix.

    The text is one line that names the problem (file, line, id, key) and the fix. The command prints it without a
    traceback (unless ``--debug`` is given) and exits with status 1.
    """
