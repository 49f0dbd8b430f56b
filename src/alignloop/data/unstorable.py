"""Text that no database can store."""


def is_storable(text: str) -> bool:
    """Whether databases can store a text: no half characters (lone surrogates), and no NUL.

    >>> is_storable("half \\ud800")
    False
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text  # which PostgreSQL refuses
