"""The parser of `alignloop label ...`. What the commands do is imported when one is run."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from alignloop.extras import needs

Parser = argparse.ArgumentParser
LABEL_HELP = """\
People compare answers in the browser. `serve` starts the page and prints a link that makes your
account; then: project add NAME, import FILE --batch NAME, user add NAME.
"""


def add_label(commands: "argparse._SubParsersAction[Any]") -> None:
    """Hang `label` and its actions on the command line's parser."""
    label = commands.add_parser(
        "label",
        help="people compare answers in the browser",
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


def _add_serve(actions: "argparse._SubParsersAction[Any]") -> None:
    serve = _action(actions, "serve", "start the annotation page", "serve")
    add = serve.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen")
    add("--port", type=int, default=8000, metavar="N", help="0 takes any that is free")
    tls = "a proxy in front speaks TLS: cookies are for TLS alone, and --host may be any address"
    add("--behind-tls", action="store_true", help=tls)
    names = "with --behind-tls: answer to this name only; may be given several times"
    add("--public-host", action="append", default=[], metavar="NAME", help=names)


def _add_import(actions: "argparse._SubParsersAction[Any]") -> None:
    words = "file items: Comparison records, or pairs in any format that `data check` knows"
    importing = _action(actions, "import", words, "import_file")
    importing.add_argument("file", metavar="FILE", help="file, folder, or hub:org/name")
    importing.add_argument("--batch", required=True, metavar="NAME", help="made if it is not there")
    gold = "gold questions: each row's chosen answer is the right one, and everybody is asked"
    importing.add_argument("--gold", action="store_true", help=gold)
    _add_slug(importing)
    _add_numbers(importing)


def _add_things(actions: "argparse._SubParsersAction[Any]") -> None:
    """Projects, batches, users, tokens: each with `add`, `list` and what ends them."""
    project = _things(actions, "project", "what is labelled under one guideline")
    add = _action(project, "add", "make a project", "add_project")
    add.add_argument("slug", metavar="NAME", help="small letters, digits and hyphens")
    add.add_argument("--title", metavar="TEXT")
    add.add_argument("--kind", choices=("comparison", "ranking", "rating"), default="comparison")
    add.add_argument("--ratings", action="store_true", help="ask for 1 to 10 per answer as well")
    add.add_argument("--no-strength", action="store_true", help="do not ask how much better")
    _action(project, "list", "print the projects", "list_projects")
    _add_batches(_things(actions, "batch", "items that are labelled together"))
    _add_users(_things(actions, "user", "who may sign in"))
    _add_tokens(_things(actions, "token", "API tokens for programs"))


def _add_batches(batch: "argparse._SubParsersAction[Any]") -> None:
    add = _action(batch, "add", "make a batch", "add_batch")
    add.add_argument("name", metavar="NAME")
    _add_numbers(add)
    close = _action(batch, "close", "hand out no more of its items", "close_batch")
    close.add_argument("name", metavar="NAME")
    close.add_argument("--open", action="store_true", help="hand them out again")
    for action in (add, close, _action(batch, "list", "print the batches", "list_batches")):
        _add_slug(action)


def _add_users(user: "argparse._SubParsersAction[Any]") -> None:
    words = "print a one-time link for a new account, or for a new password"
    add = _action(user, "add", words, "add_user")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=("annotator", "lead"), default="annotator")
    add.add_argument("--url", default="http://127.0.0.1:8000", help="where the page is")
    _action(user, "list", "print who has an account", "list_users")
    for name in ("disable", "enable"):
        change = _action(user, name, f"{name} an account", "change_user")
        change.add_argument("name", metavar="NAME")


def _add_tokens(token: "argparse._SubParsersAction[Any]") -> None:
    add = _action(token, "add", "print a new token, this once", "add_token")
    add.add_argument("user", metavar="USER")
    add.add_argument("--name", default="cli", metavar="TEXT", help="what it is for")
    add.add_argument("--scope", choices=("judge", "lead"), action="append")
    add.add_argument("--days", type=int, default=90, metavar="N", help="how long it is valid")
    _action(token, "list", "print the tokens, without their secrets", "list_tokens")
    revoke = _action(token, "revoke", "end a token", "revoke_token")
    revoke.add_argument("id", type=int, metavar="ID", help="as `token list` prints it")


def _add_export(actions: "argparse._SubParsersAction[Any]") -> None:
    words = "write what people said, to learn from it"
    export = actions.add_parser("export", help=words, description=words)
    add = export.add_argument
    where = "folder or database URL; DIR#NAME where it holds several projects"
    add("source", metavar="PROJECT_OR_URL", help=where)
    add("out", metavar="OUT", help="a new folder, or an earlier export to replace")
    kinds = ("pairs", "soft", "margins", "rankings", "ratings", "judgements", "comparisons")
    add("--kind", choices=kinds, default="pairs")
    add("--format", choices=("jsonl", "csv", "trl", "hh"), default="jsonl")
    split = "a file for each split, chosen by a hash of the prompt alone"
    add("--split", action="append", default=[], metavar="NAME=SHARE", help=split)
    add("--batch", default="", metavar="NAME", help="the items of this batch alone")
    export.set_defaults(do=_runs("run_export", "label.commands"))


def _add_sample(actions: "argparse._SubParsersAction[Any]") -> None:
    words = "let models answer prompts, and file the comparisons worth a label"
    sample = _action(actions, "sample", words, "run_sample", "acquisition.sample_command")
    add = sample.add_argument
    again = "may be given several times"
    add("--policy", action="append", required=True, metavar="DIR", help=f"or NAME=DIR; {again}")
    add("--prompts", required=True, metavar="FILE", help="any file that holds prompts")
    add("--answers", type=int, default=2, metavar="2..9", help="answers to each prompt")
    add("--temperature", type=positive_number, action="append", metavar="T", help=again)
    add("--choose", choices=("random", "uncertain", "ensemble", "coverage"), default="random")
    doubt = f"whose doubt chooses; {again}"
    add("--reward-model", action="append", default=[], metavar="DIR", help=doubt)
    add("--count", type=count, metavar="N", help="comparisons to file (default: all that fit)")
    add("--per-prompt", type=count, default=1, metavar="N", help="comparisons of a prompt at most")
    add("--batch", default="sampled", metavar="NAME", help="made if it is not there")
    add("--overlap", type=count, default=1, metavar="N", help="judgements of each item")
    add("--kind", choices=("comparison", "ranking"), default="comparison", help="of a new project")
    add("--seed", type=int, default=0, metavar="N")
    add("--max-new-tokens", type=count, default=256, metavar="N")
    add("--max-prompt-tokens", type=count, default=512, metavar="N")
    add("--chat-template", choices=("chatml",), help="where a model brings none")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    _add_slug(sample)


def _add_demo(actions: "argparse._SubParsersAction[Any]") -> None:
    words = "a ready project with the playground's comparisons, to try it in ten seconds"
    demo = actions.add_parser("demo", help=words, description=words)
    folder = "where the project goes (default: a temporary one)"
    demo.add_argument("--folder", metavar="DIR", help=folder)
    demo.add_argument("--port", type=int, default=0, metavar="N", help="default: any that is free")
    demo.set_defaults(do=_run_demo)


def _run_demo(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    with needs("label", "the annotation page"):
        from alignloop.label.demo import run_demo
    from alignloop.playground import DEMO
    from alignloop.playground.annotators import PEOPLE
    from alignloop.playground.at_work import work

    people = {p.annotator_id: partial(work, person=p, seed=0) for p in PEOPLE}
    run_demo(DEMO, people, options.folder, options.port)


def _things(actions: "argparse._SubParsersAction[Any]", name: str, words: str) -> Any:
    parser = actions.add_parser(name, help=words, description=words)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def _action(
    actions: "argparse._SubParsersAction[Any]",
    name: str,
    words: str,
    function: str,
    module: str = "label.commands",
) -> Parser:
    """An action with the options that all have; it runs `function` of alignloop.`module`."""
    parser = actions.add_parser(name, help=words, description=words)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--project", default="label", metavar="DIR", help="folder (default: label)")
    place.add_argument("--database", metavar="URL", help="postgresql://user@host/name")
    parser.set_defaults(do=_runs(function, module))
    return parser


def count(word: str) -> int:
    """A whole number of things, at least one."""
    if int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return int(word)


def positive_number(word: str) -> float:
    """A number above zero."""
    if not 0 < float(word) < float("inf"):
        raise argparse.ArgumentTypeError(f"{word} is no number above 0")
    return float(word)


def _runs(function: str, module: str) -> Callable[[argparse.Namespace, Sequence[str]], int | None]:
    def run(options: argparse.Namespace, _rest: Sequence[str]) -> int | None:
        with needs("label", "the annotation page"):
            commands = import_module(f"alignloop.{module}")
        return getattr(commands, function)(options)

    return run


def _add_slug(parser: Parser) -> None:
    parser.add_argument("--slug", metavar="NAME", help="the project, where there are several")


def _add_numbers(parser: Parser) -> None:
    add = parser.add_argument
    add("--overlap", type=count, default=1, metavar="N", help="judgements of each item")
    add("--priority", type=int, default=0, metavar="N", help="higher comes first")
    repeats = "share of items asked again of the same person, such as 0.05"
    add("--repeats", type=float, default=0.0, metavar="SHARE", help=repeats)
