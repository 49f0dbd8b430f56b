"""How much memory a file may use: the same limits for every container."""

from alignloop.data.narrow import Json

MAX_ROW_BYTES = 16 * 2**20  # one line, one element of an array, one cell, one row of a table
MAX_NESTING = 100  # depth of objects and lists
MAX_GROUP_BYTES = 2**30  # one row group of a Parquet file, one batch of an Arrow file, unpacked

# gzip shrinks real rows tenfold, very repetitive ones fortyfold, and a bomb a thousandfold.
MAX_UNPACK_RATIO = 200
UNPACK_FREE_BYTES = 64 * 2**20  # below this the ratio is not checked


def nests_too_deep(value: Json, limit: int = MAX_NESTING) -> bool:
    """Whether objects and lists are nested more than `limit` deep; works without recursion."""
    level: list[Json] = [value]
    for _ in range(limit + 1):
        inner: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return any(isinstance(item, dict | list) for item in level)
