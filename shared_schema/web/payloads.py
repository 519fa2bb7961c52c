"""The parts that requests are made of, with their limits: what does not fit is refused before anything is read."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ID_MAX = 2**53 - 1
Json = dict[str, Any]


def check_text(text: str) -> str:
    """Text that both stores and every peer can hold."""
    if "\x00" in text:
        raise ValueError("may not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("may not contain lone surrogates") from error
    return text


def check_json(value: Any) -> Any:
    """A JSON value whose texts both stores can hold, to a depth that nobody needs more of."""
    stack = [(value, 0)]
    while stack:
        part, depth = stack.pop()
        if depth > 8:
            raise ValueError("is nested too deeply")
        if isinstance(part, str):
            check_text(part)
        elif isinstance(part, dict):
            stack += [(each, depth + 1) for pair in part.items() for each in pair]
        elif isinstance(part, list):
            stack += [(each, depth + 1) for each in part]
        elif isinstance(part, int) and not isinstance(part, bool) and abs(part) > ID_MAX:
            raise ValueError("holds a number beyond 2^53")
    return value


Text = Annotated[str, Field(max_length=65_536), AfterValidator(check_text)]
Line = Annotated[str, Field(max_length=500), AfterValidator(check_text)]
Id = Annotated[int, Field(ge=1, le=ID_MAX)]
Values = Annotated[dict[str, Any], AfterValidator(check_json)]
Seen = Annotated[dict[str, str], AfterValidator(check_json)]
Targets = dict[Id, Seen]
PathId = Annotated[int, Path(ge=1, le=ID_MAX)]
After = Annotated[int, Query(ge=0, le=ID_MAX, description="Only what comes after this id: the last one of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200)]


class Payload(BaseModel):
    """A request's body; what it does not know is an error and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(Payload):
    body: Text


class Edit(Payload):
    """A new body; `seen` is the token of the one that was shown."""

    body: Text
    seen: Text | None = None


class Save(Payload):
    """Values by field, with the `seen` tokens of what was shown."""

    values: Values
    seen: Seen = {}


def page(rows: list[Json]) -> Json:
    """A page of rows; `after` is what to ask for next."""
    return {"results": rows, "after": rows[-1]["id"] if rows else None}
