"""Printing text that comes out of files: on any terminal, and without telling it what to do."""

import sys
import unicodedata

__all__ = ["print_anything", "printable"]


def printable(text: str) -> str:
    r"""Text with its control and format characters escaped, but for tabs and line ends.

    A vocabulary may hold escape sequences, which a terminal would follow, and marks that turn the
    direction of what is around them.
    """
    return "".join(
        char
        if char in "\t\n\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def print_anything() -> None:
    """Let stdout and stderr escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
