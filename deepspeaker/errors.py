"""The one exception that stands for a mistake in the user's input."""


class InputError(Exception):
    """An error that a user can cause and mend.

    Its text is one line that names the thing (file, line, id, key) and the mend. The command prints it as it is and
    exits with status 1; ``--debug`` adds the traceback.
    """
