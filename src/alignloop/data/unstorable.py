"""Text that no database can store."""

import re

# Half a character (a lone surrogate); on PostgreSQL also NUL.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
