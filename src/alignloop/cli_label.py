"""The parser of `alignloop label ...`. A command's module is imported only when it runs."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from alignloop.commands import Commands
from alignloop.extras import needs

Parser = argparse.ArgumentParser
LABEL_HELP = """\
People compare answers in the browser. `serve` starts the page and prints a link that creates your
account; then: project add NAME, import FILE --batch NAME, user add NAME.
"""


def add_label(commands: Commands) -> None:
    """Add `label` and its actions to the command line's parser."""
    label = commands.add_parser(
        "label",
        help="collect comparisons from people in the browser",
        description=LABEL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = label.add_subparsers(dest="label_action", required=True, metavar="ACTION")
    _add_serve(actions)
    _add_import(actions)
    _add_things(actions)
    _add_export(actions)
    _add_sample(actions)
    _add_demo(actions)


def _add_serve(actions: Commands) -> None:
    serve = _action(actions, "serve", "start the annotation page", "serve")
    add = serve.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen")
    add("--port", type=int, default=8000, metavar="N", help="0 = any free port")
    tls = "a proxy in front handles TLS: cookies are TLS-only, and --host may be any address"
    add("--behind-tls", action="store_true", help=tls)
    names = "with --behind-tls: answer to this host name only; may be given several times"
    add("--public-host", action="append", default=[], metavar="NAME", help=names)


def _add_import(actions: Commands) -> None:
    words = "import items: Comparison records, or pairs in any format that `data check` knows"
    importing = _action(actions, "import", words, "import_file")
    importing.add_argument("file", metavar="FILE", help="file, folder, or hub:org/name")
    importing.add_argument("--batch", required=True, metavar="NAME", help="created if missing")
    gold = "gold questions: each row's chosen answer is correct, and everyone gets asked"
    importing.add_argument("--gold", action="store_true", help=gold)
    _add_slug(importing)
    _add_numbers(importing)


def _add_things(actions: Commands) -> None:
    """Projects, batches, users, tokens: each with `add`, `list` and an action that ends them."""
    project = _things(actions, "project", "manage projects: items under one guideline")
    add = _action(project, "add", "create a project", "add_project")
    add.add_argument("slug", metavar="NAME", help="lower-case letters, digits and hyphens")
    add.add_argument("--title", metavar="TEXT")
    add.add_argument("--kind", choices=("comparison", "ranking", "rating"), default="comparison")
    add.add_argument("--ratings", action="store_true", help="also ask for a rating of 1 to 10")
    add.add_argument("--no-strength", action="store_true", help="do not ask how much better")
    _action(project, "list", "list the projects", "list_projects")
    _add_batches(_things(actions, "batch", "manage batches: items labelled together"))
    _add_users(_things(actions, "user", "manage accounts"))
    _add_tokens(_things(actions, "token", "manage API tokens for programs"))


def _add_batches(batch: Commands) -> None:
    add = _action(batch, "add", "create a batch", "add_batch")
    add.add_argument("name", metavar="NAME")
    _add_numbers(add)
    close = _action(batch, "close", "stop handing out its items", "close_batch")
    close.add_argument("name", metavar="NAME")
    close.add_argument("--open", action="store_true", help="open it again")
    for action in (add, close, _action(batch, "list", "list the batches", "list_batches")):
        _add_slug(action)


def _add_users(user: Commands) -> None:
    words = "print a one-time link for a new account, or for a new password"
    add = _action(user, "add", words, "add_user")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=("annotator", "lead"), default="annotator")
    add.add_argument("--url", default="http://127.0.0.1:8000", help="address of the page")
    _action(user, "list", "list the accounts", "list_users")
    for name in ("disable", "enable"):
        change = _action(user, name, f"{name} an account", "change_user")
        change.add_argument("name", metavar="NAME")


def _add_tokens(token: Commands) -> None:
    add = _action(token, "add", "create a token and print it, this once", "add_token")
    add.add_argument("user", metavar="USER")
    add.add_argument("--name", default="cli", metavar="TEXT", help="what the token is for")
    add.add_argument("--scope", choices=("judge", "lead"), action="append")
    add.add_argument("--days", type=int, default=90, metavar="N", help="days until it expires")
    _action(token, "list", "list the tokens, without their secrets", "list_tokens")
    revoke = _action(token, "revoke", "revoke a token", "revoke_token")
    revoke.add_argument("id", type=int, metavar="ID", help="from `token list`")


def _add_export(actions: Commands) -> None:
    words = "write the judgements in formats for training"
    export = actions.add_parser("export", help=words, description=words)
    add = export.add_argument
    where = "folder or database URL; DIR#NAME if it holds several projects"
    add("source", metavar="PROJECT_OR_URL", help=where)
    add("out", metavar="OUT", help="a new folder, or an earlier export to replace")
    kinds = ("pairs", "soft", "margins", "rankings", "ratings", "judgements", "comparisons")
    add("--kind", choices=kinds, default="pairs")
    add("--format", choices=("jsonl", "csv", "trl", "hh"), default="jsonl")
    split = "write one file per split, assigned by a hash of the prompt"
    add("--split", action="append", default=[], metavar="NAME=SHARE", help=split)
    add("--batch", default="", metavar="NAME", help="only the items of this batch")
    export.set_defaults(do=_runs("run_export", "label.commands"))


def _add_sample(actions: Commands) -> None:
    words = "let models answer prompts, and import the comparisons most worth labelling"
    sample = _action(actions, "sample", words, "run_sample", "acquisition.sample_command")
    add = sample.add_argument
    again = "may be given several times"
    add("--policy", action="append", required=True, metavar="DIR", help=f"or NAME=DIR; {again}")
    add("--prompts", required=True, metavar="FILE", help="any file that holds prompts")
    add("--answers", type=int, default=2, metavar="2..9", help="answers to each prompt")
    add("--temperature", type=positive_number, action="append", metavar="T", help=again)
    add("--choose", choices=("random", "uncertain", "ensemble", "coverage"), default="random")
    doubt = f"its uncertainty chooses the comparisons; {again}"
    add("--reward-model", action="append", default=[], metavar="DIR", help=doubt)
    add("--count", type=count, metavar="N", help="comparisons to import (default: all that fit)")
    add("--per-prompt", type=count, default=1, metavar="N", help="most comparisons per prompt")
    add("--batch", default="sampled", metavar="NAME", help="created if missing")
    add("--overlap", type=count, default=1, metavar="N", help="judgements of each item")
    add("--kind", choices=("comparison", "ranking"), default="comparison", help="of a new project")
    add("--seed", type=int, default=0, metavar="N")
    add("--max-new-tokens", type=count, default=256, metavar="N")
    add("--max-prompt-tokens", type=count, default=512, metavar="N")
    add("--chat-template", choices=("chatml",), help="used if a model has none")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    _add_slug(sample)


def _add_demo(actions: Commands) -> None:
    words = "serve a ready-made project with the playground's comparisons, to try it in ten seconds"
    demo = actions.add_parser("demo", help=words, description=words)
    folder = "folder of the project (default: a temporary one)"
    demo.add_argument("--folder", metavar="DIR", help=folder)
    demo.add_argument("--port", type=int, default=0, metavar="N", help="default: any free port")
    demo.set_defaults(do=_run_demo)


def _run_demo(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    with needs("label", "the annotation page"):
        from alignloop.label.demo import run_demo
    from alignloop.playground import DEMO
    from alignloop.playground.annotators import PEOPLE
    from alignloop.playground.at_work import work

    people = {p.annotator_id: partial(work, person=p, seed=0) for p in PEOPLE}
    run_demo(DEMO, people, options.folder, options.port)


def _things(actions: Commands, name: str, words: str) -> Commands:
    parser = actions.add_parser(name, help=words, description=words)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def _action(
    actions: Commands,
    name: str,
    words: str,
    function: str,
    module: str = "label.commands",
) -> Parser:
    """An action with the common options; it runs `function` of alignloop.`module`."""
    parser = actions.add_parser(name, help=words, description=words)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--project", default="label", metavar="DIR", help="folder (default: label)")
    place.add_argument("--database", metavar="URL", help="postgresql://user@host/name")
    parser.set_defaults(do=_runs(function, module))
    return parser


def count(word: str) -> int:
    """A whole number, at least 1."""
    if int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return int(word)


def positive_number(word: str) -> float:
    """A number above zero."""
    if not 0 < float(word) < float("inf"):
        raise argparse.ArgumentTypeError(f"{word} is not a number above 0")
    return float(word)


def _runs(function: str, module: str) -> Callable[[argparse.Namespace, Sequence[str]], int | None]:
    def run(options: argparse.Namespace, _rest: Sequence[str]) -> int | None:
        with needs("label", "the annotation page"):
            commands = import_module(f"alignloop.{module}")
        return getattr(commands, function)(options)

    return run


def _add_slug(parser: Parser) -> None:
    parser.add_argument("--slug", metavar="NAME", help="the project, if there are several")


def _add_numbers(parser: Parser) -> None:
    add = parser.add_argument
    add("--overlap", type=count, default=1, metavar="N", help="judgements of each item")
    add("--priority", type=int, default=0, metavar="N", help="higher comes first")
    repeats = "share of items that the same person gets twice, such as 0.05"
    add("--repeats", type=float, default=0.0, metavar="SHARE", help=repeats)
