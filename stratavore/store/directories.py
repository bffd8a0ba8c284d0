"""Which paths lie in which directories, asked in SQL."""


def lies_in(path: str, directory: str) -> str:
    """The condition that the one is the other, or is below it; both are SQL that gives an absolute path."""
    around = f"rtrim({directory}, '/')"  # all but that of `/`, which ends in a slash, are written without one
    return f"({path} = {directory} OR substr({path}, 1, length({around}) + 1) = {around} || '/')"
