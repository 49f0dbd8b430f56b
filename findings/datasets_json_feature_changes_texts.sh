#!/bin/sh
# datasets 5.2.0: Dataset.from_list(rows, on_mixed_types="use_json") types a column of texts and lists as Json, and a
# text that is itself JSON comes back as another value: "3" as the number 3, "null" as None, "\"a\"" without its
# quotes. So a column that mixes answers such as "3" with lists of turns changes its texts, without a warning.
# Seen: '3' -> 3, 'null' -> None, '"a"' -> 'a', '[1]' -> [1]; 'plain' -> 'plain'.
# Runs in a temporary folder without alignloop; fails if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0
"$folder/venv/bin/python" - <<'EOF'
from datasets import Dataset, __version__

assert __version__ == "5.2.0", __version__
expected = {"3": 3, "null": None, '"a"': "a", "[1]": [1], "plain": "plain"}
for text, value in expected.items():
    rows = Dataset.from_list([{"x": text}, {"x": ["a list"]}], on_mixed_types="use_json")
    found = rows[0]["x"]
    print(f"{text!r} -> {found!r} ({rows.features['x']})")
    assert found == value and type(found) is type(value), (text, found)
EOF
echo "as described: datasets 5.2.0"
