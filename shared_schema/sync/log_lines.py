"""Lines of the log: readable or JSON, each with the ids of what it is about."""

import json
import logging
from datetime import UTC, datetime
from typing import Any


def ids(partnership: str | None = None, registration: str | None = None, event: str | None = None, **more: Any) -> dict[str, Any]:
    """What a line is about, for the logger's `extra`; what is None is left out."""
    named = {"partnership": partnership, "registration": registration, "event": event, **more}
    return {"ids": {name: value for name, value in named.items() if value is not None}}


class TextLines(logging.Formatter):
    """One readable line per record, ids at its end; a stack follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = "".join(f" {name}={value}" for name, value in getattr(record, "ids", {}).items())
        line = f"{time} {record.levelname} {record.name}: {record.getMessage()}{about}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object per record, with the ids as members of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"ms": int(record.created * 1000), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "ids", {})
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
