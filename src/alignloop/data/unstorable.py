"""Text that no database keeps."""

import re

# Half a character (a lone surrogate), and on PostgreSQL a NUL.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
