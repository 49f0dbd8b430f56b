"""How much a file may ask of the memory: the same limits for every container."""

MAX_ROW_BYTES = 16 * 2**20  # one line, one element of an array, one cell, one row of a table
MAX_NESTING = 100  # objects and lists within each other
MAX_GROUP_BYTES = 2**30  # one row group of a Parquet file, one batch of an Arrow file, unpacked

# A gzip file of real rows shrinks tenfold, of very repetitive ones fortyfold; a bomb thousandfold.
MAX_UNPACK_RATIO = 200
UNPACK_FREE_BYTES = 64 * 2**20  # below this the ratio does not matter


def nests_too_deep(value: object, limit: int = MAX_NESTING) -> bool:
    """Whether objects and lists stand within each other more than `limit` deep; no recursion."""
    level: list[object] = [value]
    for _ in range(limit + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return any(isinstance(item, dict | list) for item in level)
