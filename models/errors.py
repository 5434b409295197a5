"""The one error the models raise."""


class ModelError(Exception):
    """A one-line message: what is wrong, where, and what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
