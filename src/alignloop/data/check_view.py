"""The findings of `alignloop data check` as tables and histograms in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignloop.data.check import Report
from alignloop.data.formats.used import in_words
from alignloop.data.lengths import Bin
from alignloop.errors import harmless

REFUSED_SHOWN = 10
BAR_WIDTH = 32
WIDEST = 10_000  # columns: wider than any file name


def show(reports: Sequence[Report], tokenizer: str, console: Console) -> None:
    """One line per file, then the details of each."""
    overview = Table(title=None, show_edge=False, pad_edge=False)
    for name in ("file", "format", "encoding"):
        overview.add_column(name, no_wrap=True)
    for name in ("rows", "refused", "duplicates", "shared prompts"):
        overview.add_column(name, justify="right")
    for report in reports:
        overview.add_row(
            _text(_name(report)),
            report.format,
            report.encoding,
            f"{report.rows}",
            f"{report.num_refused}",
            f"{report.duplicates}",
            f"{max(report.shared_prompts.values(), default=0)}",
            style="red" if report.num_refused else None,
        )
    # Not cut to the terminal's width: it wraps long lines itself, and copied names stay whole.
    wide = Console(file=console.file, width=WIDEST, force_terminal=console.is_terminal)
    wide.print(overview)
    for report in reports:
        _show_one(report, tokenizer, console)


def _name(report: Report) -> str:
    return f"{report.file} ({report.split})" if report.split else report.file


def _text(text: str) -> Text:
    return Text(harmless(text))  # a file name may contain rich markup, or worse


def _show_one(report: Report, tokenizer: str, console: Console) -> None:
    console.print()
    console.print(_text(f"── {_name(report)} ──"), soft_wrap=True)
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        facts.add_row(name, _text(value))
    console.print(facts)
    if report.tokens["count"]:
        title = f"tokens of prompt and response together ({tokenizer}; without the chat template)"
        console.print(_text(title))
        console.print(_histogram(report.tokens["histogram"]))
    for refused in report.refused[:REFUSED_SHOWN]:
        where = f"{report.file}:{refused['line']}"
        refusal = harmless(f"refused {where}: {refused['reason']}")
        console.print(Text(refusal, style="red"), soft_wrap=True)
    if report.num_refused > REFUSED_SHOWN:
        more = report.num_refused - REFUSED_SHOWN
        console.print(_text(f"and {more} more refused rows; list them with --json"))


def _facts(report: Report) -> list[tuple[str, str]]:
    tokens = report.tokens
    facts = [
        ("found", f"{report.records} {report.kind}, {report.prompts} prompts ({report.container})"),
        ("languages", _counts({name or "none": n for name, n in report.languages.items()})),
        ("labels", _counts(report.labels)),
    ]
    if report.chosen_longer is not None:
        facts.append(("chosen is longer", f"{report.chosen_longer:.1%} of the pairs"))
    if tokens["count"]:
        values = (tokens.get(key, 0) for key in ("min", "median", "p95", "max"))
        facts.append(("tokens", "min {}, median {}, 95 % {}, max {}".format(*values)))
    facts += [
        (name, in_words(counts, report.rows))
        for name, counts in (
            ("kept as reference", report.references),
            ("kept as metadata", report.metadata),
            ("not read", report.unread),
        )
    ]
    facts += [("note", note) for note in report.notes]
    for name, count in report.shared_prompts.items():
        facts.append(("prompts shared", f"{count} with {name}"))
    return [(name, value) for name, value in facts if value]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _histogram(bins: Sequence[Bin]) -> Table:
    most = max(bin_["count"] for bin_ in bins)
    shown = Table.grid(padding=(0, 1))
    shown.add_column(justify="right")
    shown.add_column(width=BAR_WIDTH)
    shown.add_column(justify="right")
    for bin_ in bins:
        # Every non-empty bin is visible, however small.
        length = max(round(BAR_WIDTH * bin_["count"] / most), 1 if bin_["count"] else 0)
        shown.add_row(f"<= {bin_['up_to']}", "█" * length, f"{bin_['count']}")
    return shown
