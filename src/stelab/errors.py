"""The exception for a user's mistake."""


class InputError(ValueError):
    """Bad input: the message names the invariant, what came, and the fix.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
