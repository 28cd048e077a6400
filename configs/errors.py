"""The exception for problems that the user can fix."""


class UserError(Exception):
    """A problem that the user can fix: scripts print it as one line and end with exit code 2."""
