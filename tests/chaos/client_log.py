"""The people's own log: one line before a command is sent and one when its answer is there, each on disk before anything else happens."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

Context = dict[str, int]
Reached = tuple[str, str, Context]  # a record's uid, a field, and the context that the field has there


class Written(NamedTuple):
    """A save: where, the value if nobody else writes the same, and what its author had in view."""

    uid: str
    field: str
    value: Any
    seen: Context


class Command(NamedTuple):
    """One command of one side. `result`: acknowledged, refused, failed (the node's own error), or unanswered: then nobody knows whether it
    was done. `reached`: what the node showed of it when it acknowledged; `text`: what a private command wrote."""

    side: str
    do: str
    path: str
    asked_ms: int
    written: tuple[Written, ...] = ()
    private: str | None = None
    result: str = "unanswered"
    answered_ms: int = 1 << 60
    reached: tuple[Reached, ...] = ()
    registration: str | None = None
    detail: str = ""


class Seen(NamedTuple):
    """What a side was told the peer has applied."""

    side: str
    at_ms: int
    registration: str
    reached: Reached


class ClientLog:
    """One side's log."""

    def __init__(self, side: str, path: Path) -> None:
        self.side = side
        self.path = path
        self.file: TextIO = path.open("a", encoding="utf-8")
        self.number = 0

    def ask(self, do: str, path: str, written: tuple[Written, ...] = (), private: str | None = None) -> int:
        self.number += 1
        self.put({"n": self.number, "do": do, "path": path, "asked_ms": now_ms(), "written": written, "private": private})
        return self.number

    def answer(self, number: int, result: str, **more: Any) -> None:
        self.put({"n": number, "result": result, "answered_ms": now_ms(), **more})

    def see(self, registration: str, reached: list[Reached]) -> None:
        for each in reached:
            self.put({"registration": registration, "applied": each, "at_ms": now_ms()})

    def put(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_log(side: str, path: Path) -> tuple[list[Command], list[Seen]]:
    """What a log says."""
    asked: dict[int, dict[str, Any]] = {}
    seen = []
    for line in read_lines(path):
        if "applied" in line:
            seen.append(Seen(side, line["at_ms"], line["registration"], tuple(line["applied"])))
        else:
            asked.setdefault(line.pop("n"), {}).update(line)
    return [make_command(side, line) for line in asked.values()], seen


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def make_command(side: str, line: dict[str, Any]) -> Command:
    line["written"] = tuple(Written(*each) for each in line["written"])
    line["reached"] = tuple(tuple(each) for each in line.get("reached", ()))
    return Command(side=side, **line)
