"""Text of unknown origin, made fit for a terminal.

Rule: no output of a command may move the cursor, change a colour, reorder letters or hide them, whatever a runner, a
folder or a person named things.
"""


def clean(text: str) -> str:
    """`text` without control characters (C0, C1, DEL), bidi controls and what is not seen, on one line."""
    if text.isascii() and text.isprintable():
        return text
    from stratavore.terminal.printable import printable

    return printable("".join(" " if char.isspace() else char for char in text))


def clean_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n"))
