"""The one error that people see."""


class HearbackError(Exception):
    """Something a user can mend.

    The message is one to three lines: what is wrong, where (file, key, record), and what to do.
    The command line prints it on stderr and exits with ``exit_code``. ``heals``: waiting may help,
    as with a server that is down.
    """

    def __init__(self, message: str, *, exit_code: int = 1, heals: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.heals = heals


class UsageError(HearbackError):
    """Wrong arguments or configuration: exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


def may_heal(error: BaseException) -> bool:
    """Whether a fault comes from the network, or from a server that is down or overloaded."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            return bool(response.status_code == 429 or response.status_code >= 500)
        is_client = type(cause).__module__.split(".")[0] in ("requests", "httpx", "urllib3")
        if is_client or isinstance(cause, ConnectionError | TimeoutError):
            return True
        if getattr(cause, "heals", False):
            return True
        cause = cause.__cause__
    return False
