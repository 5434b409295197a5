"""The one error that people see."""


class HearbackError(Exception):
    """Something a user can mend.

    The message is one to three lines: what is wrong, where (file, key, record), and what to do.
    The command line prints it on stderr and exits with ``exit_code``.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class UsageError(HearbackError):
    """Wrong arguments or configuration: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)
