"""The one exception for what the user can mend."""


class UserError(Exception):
    """Something that the user can mend: scripts print it as one line and end with exit code 2."""
