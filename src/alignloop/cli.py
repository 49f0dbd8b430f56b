"""The command line: `alignloop run playground`. Stages load only after parsing."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from alignloop import __version__
from alignloop.cli_label import add_label
from alignloop.cli_recipes import add_recipes
from alignloop.commands import Commands
from alignloop.errors import UserError, harmless, is_full_disk

SETTINGS_HELP = """\
Every setting can be given on the command line: --section.key value, for example
  --rl.num_steps 20  --sft.demonstrations my.jsonl  --model.path ./my-model
`alignloop settings` lists all of them with their defaults.
"""

REDO_HELP = (
    "redo a stage whose inputs or settings have changed, deleting its earlier output (without"
    " this switch the command refuses)"
)

CHECK_HELP = """\
Reports on each file: format and encoding, rows, refused rows with their reasons, duplicates,
prompts shared between files, lengths in tokens, languages, how often the chosen answer is the
longer one, labels. Reads JSONL, JSON, CSV, TSV, Parquet and Arrow, gzipped or not, folders,
directories of the datasets library, and hub:org/name. Exits with code 1 if any row is refused.
"""
CONVERT_HELP = """\
Writes a file of any known format as JSONL: our records, or TRL's conversational columns. Refused
rows stop the conversion; with --skip-refused they go to refused.jsonl next to OUT. Exports of
annotation tools become judgements, with OUT.comparisons.jsonl next to them. Nothing is overwritten.
"""

MERGE_HELP = """\
Merges an adapter directory (from a stage run with lora.rank set, or from PEFT) into a plain model
directory. The base model is the one the adapter names, or --base DIR. A reward model keeps its head
and its reward_scale.json. Never overwrites a file.
"""
CONVERT_MODEL_HELP = """\
Turns a GGUF file into a model directory that can be trained, using transformers: dequantised
safetensors weights, config, tokenizer and chat template. The result is loaded again and checked:
same logits, and it generates an answer. Needs `pip install 'alignloop[gguf]'`; no network.
"""
RECIPE_HELP = "a recipe.toml, its folder, or a name from `alignloop recipes`"
PLAN_HELP = """\
Estimates what a run needs: parameters, memory of each stage by role, tokens per step, and time,
from a measurement of a few seconds on this machine. Reads the config.json of model.path, which may
be that file itself; no weights are loaded.
"""

STAGE_COMMANDS = {
    "run": "run all stages in order, then the report; resumes where it stopped",
    "sft": "stage 1: fine-tune the model on demonstrations",
    "reward": "stage 2: train the reward model on preference pairs",
    "rl": "stage 3: train the policy with PPO, GRPO or RLOO against the reward model",
    "dpo": "instead of stages 2 and 3: train with DPO or IPO on the preference pairs",
    "evaluate": "compare the SFT model with the policy on held-out prompts",
    "report": "write report.html and summary.json from a run folder's files",
}

# OS errors that a path given by the user can cause. Any other OSError is a bug of ours.
USER_ERRNOS = {
    errno.EACCES,
    errno.EBUSY,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EINVAL,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.ENXIO,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EROFS,
    errno.ETXTBSY,
}
STOPPED = (
    "stopped; finished stages and checkpoints are kept: run the same command to resume from the"
    " last checkpoint (a stage without one starts over)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run; print a UserError as one message and exit with code 2."""
    _log_harmlessly()
    try:
        parser = make_parser()
        options, rest = parser.parse_known_args(arguments)
        if rest and options.command not in (*STAGE_COMMANDS, "plan"):
            parser.error(f"unrecognised arguments: {' '.join(rest)}")
        code = options.do(options, rest)
        # flush here, so that a closed pipe is caught below and not at exit
        sys.stdout.flush()
        if code:
            sys.exit(code)
    except UserError as error:
        sys.exit(_fail(f"error: {error}", 2))
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as if SIGPIPE had ended us
    except KeyboardInterrupt:
        sys.exit(_fail(STOPPED, 130))
    except Exception as error:
        # Imported only when loaded already: a stage raised it.
        stage_run = sys.modules.get("alignloop.run.stage_run")
        if stage_run is not None and isinstance(error, stage_run.Interrupted):
            # 130 is the shell's code for SIGINT; an Interrupted from SIGTERM carries its own.
            code = int(getattr(error, "exit_code", 130))
            sys.exit(_fail(str(error), code))
        if (user_error := _as_user_error(error)) is not None:
            sys.exit(_fail(f"error: {user_error}", 2))
        raise


def _log_harmlessly() -> None:
    """Escape control characters in warnings, which quote users' files and rows."""

    class Harmless(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return harmless(super().format(record))

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Harmless())


def _say(what: object) -> None:
    """Print a result on stdout: raw for a program, escaped for a terminal."""
    print(harmless(str(what)) if sys.stdout.isatty() else what)


def _as_user_error(error: Exception) -> UserError | None:
    """A UserError for a failure caused by a path, a name or the disk; None for a bug of ours."""
    if is_full_disk(error):
        where = str(getattr(error, "filename", None) or "")
        fix = "free some space and run the same command again; files written so far are intact"
        return UserError("the disk is full", where=where, fix=fix)
    if isinstance(error, OSError) and error.errno in USER_ERRNOS and error.filename:
        return _from_os_error(error)
    if isinstance(error, ValueError) and "null byte" in str(error):
        return UserError("a path contains a NUL character", fix="remove it from the path")
    if isinstance(error, UnicodeEncodeError) and error.encoding in ("utf-8", "utf8"):
        text = error.object[:80]
        return UserError("not valid UTF-8", where=text, fix="use another name")
    return None


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UserError like everything else."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        raise UserError(message, fix=f"see `{self.prog} --help`")


def make_parser() -> argparse.ArgumentParser:
    """The parser, with one command per stage."""
    parser = Parser(
        prog="alignloop",
        description="The whole loop of RLHF: SFT, reward model, PPO, honest evaluation, report.",
        epilog=SETTINGS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in STAGE_COMMANDS.items():
        stage = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=SETTINGS_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        stage.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
        stage.add_argument("--seed", metavar="N", help="random seed")
        stage.add_argument("--folder", metavar="DIR", help="the run folder (default: runs/<name>)")
        stage.add_argument(
            *("--skip-refused", "--skip_refused"),
            nargs="?",
            const="true",
            metavar="true",
            help="skip rows that cannot be read; they go to the run folder's refused.jsonl",
        )
        stage.add_argument("--redo", action="store_true", help=REDO_HELP)
        stage.set_defaults(do=_run_stage)
    settings = commands.add_parser("settings", help="list all settings with their defaults")
    settings.add_argument("--markdown", action="store_true", help="as docs/configuration.md")
    settings.set_defaults(do=_print_settings)
    add_recipes(commands)
    _add_playground(commands)
    _add_data(commands)
    _add_models(commands)
    _add_merge_and_plan(commands)
    add_label(commands)
    return parser


def parse_overrides(rest: Sequence[str]) -> dict[str, str]:
    """--section.key value or --section.key=value, as {"section.key": "value"}.

    Raises UserError for anything else.
    """
    overrides: dict[str, str] = {}
    words = list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise UserError(
                f"unknown argument {word!r}", fix="settings look like --section.key value"
            )
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise UserError(f"{word} has no value", fix=f"write {word} VALUE")
            value = words.pop(0)
        overrides[key.replace("-", "_")] = value
    return overrides


def _positive(text: str) -> int:
    """A positive whole number; argparse reports the error."""
    return _whole(text, 1, 10**9)


def _seed(text: str) -> int:
    """A random seed."""
    return _whole(text, 0, 2**63 - 1)


def _whole(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} is not a whole number from {low} to {high}")
    return value


def _add_playground(commands: Commands) -> None:
    playground = commands.add_parser("playground", help="the built-in world: its model and data")
    actions = playground.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build-base", help="pre-train the base model from its corpus")
    build.add_argument("--out", required=True, metavar="DIR", help="where the model goes")
    build.add_argument("--seed", type=_seed, metavar="N")
    build.add_argument("--steps", type=_positive, metavar="N", help="stop after this many steps")
    build.set_defaults(do=_build_base)
    export = actions.add_parser("export", help="write prompts and demonstrations as JSONL files")
    export.add_argument("--out", required=True, metavar="DIR")
    export.add_argument("--seed", type=_seed, default=0, metavar="N")
    export.set_defaults(do=_export_playground)
    demo = actions.add_parser("demo", help="build the comparisons of `alignloop label demo`")
    demo.add_argument("--policy", required=True, action="append", metavar="NAME=DIR")
    demo.add_argument("--out", required=True, metavar="DIR")
    demo.add_argument("--seed", type=_seed, default=0, metavar="N")
    demo.set_defaults(do=_build_demo)


def _add_data(commands: Commands) -> None:
    data = commands.add_parser("data", help="check and convert data files")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    shape = argparse.RawDescriptionHelpFormatter
    check = actions.add_parser(
        "check", help="report what files contain", description=CHECK_HELP, formatter_class=shape
    )
    add = check.add_argument
    add("files", nargs="+", metavar="FILE", help="file, folder, or hub:org/name")
    add("--format", metavar="F", help="read every row in this format, such as alpaca")
    add("--json", action="store_true", help="print the findings as JSON")
    add("--tokenizer", metavar="DIR", help="count tokens with it (default: the playground's)")
    check.set_defaults(do=_check_data)
    convert = actions.add_parser(
        "convert", help="write a file as JSONL", description=CONVERT_HELP, formatter_class=shape
    )
    add = convert.add_argument
    add("source", metavar="FILE", help="file, folder, or hub:org/name")
    add("out", metavar="OUT", help="a .jsonl or .jsonl.gz file")
    add("--to", required=True, choices=("pairs", "demonstrations", "prompts", "judgements", "trl"))
    add("--overwrite", action="store_true", help="replace OUT if it exists")
    add("--format", metavar="F", help="read every row in this format, such as alpaca")
    add("--skip-refused", action="store_true", help="skip bad rows and write them to refused.jsonl")
    held_out = "leave out its prompts and their near duplicates; may be given several times"
    add("--exclude", metavar="FILE", help=held_out, action="append", default=[])
    near = "share of common trigrams of near duplicates (default: 0.8; 1 = equal texts only)"
    add("--near-duplicate", metavar="SHARE", type=float, default=0.8, help=near)
    split = "write OUT.NAME.jsonl for each split, assigned by a hash of the prompt"
    add("--split", metavar="NAME=SHARE", help=split, action="append", default=[])
    convert.set_defaults(do=_convert_data)


def _add_models(commands: Commands) -> None:
    models = commands.add_parser("models", help="convert models")
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    convert = actions.add_parser(
        "convert",
        help="make a model directory from a GGUF file",
        description=CONVERT_MODEL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = convert.add_argument
    add("source", metavar="FILE.gguf", help="a GGUF file, or a folder with one")
    add("out", metavar="OUT", help="the new model directory")
    types = ("float32", "bfloat16")
    add("--dtype", choices=types, default=types[0], help="type of the weights (default: float32)")
    add("--tokenizer", metavar="DIR", help="use this directory's tokenizer instead of the file's")
    convert.set_defaults(do=_convert_model)


def _add_merge_and_plan(commands: Commands) -> None:
    shape = argparse.RawDescriptionHelpFormatter
    text = "merge an adapter into a plain model"
    merge = commands.add_parser("merge", help=text, description=MERGE_HELP, formatter_class=shape)
    merge.add_argument("adapter", metavar="ADAPTER_DIR", help="such as runs/x/rl/model")
    merge.add_argument("out", metavar="OUT", help="the new model directory")
    merge.add_argument("--base", metavar="DIR", help="the adapter's base model")
    merge.set_defaults(do=_merge)
    text = "estimate parameters, memory and time of a recipe"
    plan = commands.add_parser(
        "plan", help=text, description=PLAN_HELP, epilog=SETTINGS_HELP, formatter_class=shape
    )
    plan.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    plan.add_argument("--json", action="store_true", help="print the numbers as JSON")
    plan.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure this machine for the time estimate (default: yes)",
    )
    plan.set_defaults(do=_plan)


def _refuse_to_overwrite(out: Path) -> None:
    if out.exists():
        raise UserError(
            "something exists here already, and nothing is overwritten",
            where=str(out),
            fix="name another directory, or remove this one",
        )


def _quiet_transformers() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # progress bars of libraries would break up our own lines
    os.environ.setdefault("TQDM_DISABLE", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _convert_model(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    out = Path(options.out)
    _refuse_to_overwrite(out)
    _quiet_transformers()
    from alignloop.models.convert import convert_gguf, find_gguf
    from alignloop.run import atomic_folder

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    file = find_gguf(Path(options.source))
    tokenizer = Path(options.tokenizer) if options.tokenizer else None
    with atomic_folder(out) as folder:
        made = convert_gguf(file, folder, dtype=options.dtype, tokenizer_from=tokenizer, say=say)
    for note in made.notes:
        say(f"note: {note}")
    if not made.has_template:
        say("note: it has no chat template; set one with `--model.chat_template chatml`")
    kinds = ", ".join(f"{count} {name}" for name, count in made.header.types.items())
    say(f"{made.header.architecture}, {made.parameters:,} parameters from tensors {kinds}")
    say(f"test answer: {made.answer!r}")
    print(out.resolve())


def _merge(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    out, base = Path(options.out), Path(options.base) if options.base else None
    _refuse_to_overwrite(out)
    _quiet_transformers()
    from alignloop.models.merging import merge_adapter
    from alignloop.run import atomic_folder

    with atomic_folder(out) as folder:
        merge_adapter(Path(options.adapter), folder, base)
    _say(out.resolve())


def _plan(options: argparse.Namespace, rest: Sequence[str]) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from alignloop.config import load_recipe

    recipe = load_recipe(options.recipe, parse_overrides(rest))  # fail before torch is loaded
    from alignloop.pipeline import plan_of
    from alignloop.plan.view import as_json, as_text

    plan = plan_of(recipe, measure=options.measure)
    print(as_json(plan) if options.json else as_text(plan))


def _check_data(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from alignloop.data.commands import run_check

    if options.tokenizer:
        return run_check(options, Path(options.tokenizer), options.tokenizer)
    from alignloop.playground import BASE_MODEL

    return run_check(options, BASE_MODEL, "the playground's tokenizer; use yours: --tokenizer DIR")


def _convert_data(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    from alignloop.data.commands import run_convert

    return run_convert(options)


def _run_stage(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from alignloop.config import load_recipe
    from alignloop.pipeline import Pipeline

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no network unless asked
    overrides = parse_overrides(rest)
    # `--pairs FILE` is short for the setting of the stage itself
    if options.command in ("reward", "dpo") and "pairs" in overrides:
        overrides[f"{options.command}.pairs"] = overrides.pop("pairs")
    if options.seed is not None:
        overrides["seed"] = options.seed
    if options.skip_refused is not None:
        overrides["skip_refused"] = options.skip_refused
    recipe = load_recipe(options.recipe, overrides)
    pipeline = Pipeline(recipe, options.folder, redo=options.redo)
    stages: dict[str, Callable[[], Path]] = {
        "run": pipeline.run,
        "sft": pipeline.sft,
        "reward": pipeline.reward,
        "rl": pipeline.ppo,
        "dpo": pipeline.dpo,
        "evaluate": pipeline.evaluate,
        "report": pipeline.report,
    }
    _say(stages[options.command]().resolve())


def _print_settings(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.config.load import describe_settings
    from alignloop.config.markdown import settings_markdown

    print(settings_markdown() if options.markdown else describe_settings())


def _build_base(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.playground.base import BaseRecipe, build_base

    recipe = BaseRecipe() if options.seed is None else BaseRecipe(seed=options.seed)
    facts = build_base(recipe, Path(options.out), stop_after=options.steps)
    print(f"sha256 {facts['sha256']}, {facts['wall_seconds']} s")


def _export_playground(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.playground.export import export

    for path in export(Path(options.out), options.seed):
        _say(path)


def _build_demo(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.playground.demo import build_demo

    named = [word.partition("=") for word in options.policy]
    policies = {name: Path(path) for name, _, path in named}
    for path in build_demo(policies, Path(options.out), options.seed):
        _say(path)


def _from_os_error(error: OSError) -> UserError:
    problem = f"the system reports: {(error.strerror or str(error)).lower()}"
    return UserError(problem, where=str(error.filename), fix="use another path, or fix this one")


def _fail(message: str, code: int) -> int:
    print(harmless(message), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
