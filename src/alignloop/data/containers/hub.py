"""Data sets of the `datasets` library: save_to_disk directories, and the Hugging Face Hub."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignloop.data.containers.features import Features, as_meant, kept_otherwise
from alignloop.data.containers.rows import BadRow, Encoding, Row, Table
from alignloop.errors import UserError
from alignloop.extras import needs

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hub:"
BINARY = Encoding(name="binary")


def is_saved_dataset(folder: Path) -> bool:
    """Whether the folder was made by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_tables(folder: Path) -> list[Table]:
    """One table per split of a save_to_disk directory."""
    if (folder / "state.json").is_file():
        return [_saved(folder, "")]
    try:
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return [_saved(folder / str(split), str(split)) for split in splits]
    except (ValueError, KeyError, TypeError, OSError) as error:
        problem = f"dataset_dict.json is damaged: {error}"
        raise UserError(problem, where=str(folder), fix="save the data set again") from error


def _saved(folder: Path, split: str) -> Table:
    rows = partial(_saved_rows, folder)
    return Table(name=str(folder), container="datasets", rows=rows, split=split, encoding=BINARY)


def _saved_rows(folder: Path) -> Iterator[Row | BadRow]:
    with needs("data", "a directory of the datasets library"):
        from datasets import load_from_disk

    try:
        data = load_from_disk(str(folder))
    except Exception as error:  # the library raises anything on damaged files
        problem = f"the data set is damaged: {_first_line(error)}"
        raise UserError(problem, where=str(folder), fix="save it again") from error
    yield from _numbered(data)


def hub_tables(name: str) -> list[Table]:
    """The splits of a data set on the Hub, streamed: "hub:org/name" or "hub:org/name:split".

    Raises UserError if there is no network or no such data set.
    """
    with needs("data", "a data set of the Hub"):
        from datasets import get_dataset_split_names

    repository, _, asked = name.removeprefix(HUB).partition(":")
    if not repository:
        raise UserError("the hub id is empty", where=name, fix="write hub:org/name")
    try:
        splits = get_dataset_split_names(repository)
    except Exception as error:  # connection, permission, or an unknown name
        raise _unreachable(name, error) from error
    if asked and asked not in splits:
        raise UserError(
            f'no split named "{asked}"', where=name, fix=f"choose one of: {', '.join(splits)}"
        )
    return [
        Table(
            name=f"{HUB}{repository}:{split}",
            container="hub",
            rows=partial(_hub_rows, repository, split),
            split=split,
            encoding=BINARY,
        )
        for split in ([asked] if asked else splits)
    ]


def _hub_rows(repository: str, split: str) -> Iterator[Row | BadRow]:
    from datasets import load_dataset

    try:
        yield from _numbered(load_dataset(repository, split=split, streaming=True))
    except UserError:
        raise
    except Exception as error:
        raise _unreachable(f"{HUB}{repository}:{split}", error) from error


def _numbered(rows: "Dataset") -> Iterator[Row]:
    # The library decodes Json itself, but leaves classes as numbers.
    known = getattr(rows, "features", None)  # none of a folder of splits
    stored: Features = known.to_dict() if known else {}
    features = {key: one for key, one in kept_otherwise(stored).items() if "Json" not in str(one)}
    for number, value in enumerate(rows, start=1):
        meant = as_meant(value, features)
        yield Row(line=number, value={k: item for k, item in meant.items() if item is not None})


def _unreachable(name: str, error: Exception) -> UserError:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline:
        return UserError(
            "HF_HUB_OFFLINE is set, so the Hub is not accessed",
            where=name,
            fix="set HF_HUB_OFFLINE=0, or download the files and use their paths",
        )
    return UserError(
        f"cannot get the data set from the Hub: {_first_line(error)}",
        where=name,
        fix="check its name and the network, or download the files and use their paths",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
