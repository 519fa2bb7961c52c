"""A node's settings, from the environment: DEALBRIDGE_…, frozen, each with its meaning. A bad one stops the process with one line."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared_schema.crm.database import BadDatabaseUrl, parse_url

PREFIX = "DEALBRIDGE_"
Role = Literal["web", "sync", "all"]


class BadSettings(ValueError):
    """One line that names the variable and says what it takes."""


def check_database(url: str) -> str:
    try:
        parse_url(url)
    except BadDatabaseUrl as error:
        raise ValueError(str(error)) from error
    return url


def check_brokers(address: str) -> str:
    for each in address.split(","):
        if not re.fullmatch(r"[\w.\-]+:\d{1,5}", each.strip()):
            raise ValueError("takes host:port, or several with commas")
    return address


class Settings(BaseSettings):
    """All that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database: Annotated[str, AfterValidator(check_database)] = Field(
        description="The node's store: `sqlite:///path/file.db` or `postgresql://user:password@host:port/name`."
    )
    kafka: Annotated[str, AfterValidator(check_brokers)] = Field(
        "127.0.0.1:9092", description="The broker: `host:port`, or several with commas."
    )
    organisation: str = Field("", max_length=200, description="This company's name, as partners see it.")
    host: str = Field("127.0.0.1", description="The address that the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="The port that the API listens on; 0 takes a free one.")
    role: Role = Field("all", description="What a process does: `web`, `sync` or `all`.")
    parked_max: int = Field(1_000, ge=1, description="So many records parked since the last `sync resume` stop a partnership's stream.")
    parked_per_minute: int = Field(100, ge=1, description="So many records parked within a minute stop it, too.")
    outbox_max: int = Field(
        200_000,
        ge=1_000,
        description="So many unacknowledged events of a partnership are kept; more become whole states to send.",
    )
    verify_minutes: int = Field(60, ge=0, description="After so many minutes both sides are compared again, and repaired; 0 for never.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="One line of text or one JSON object per log record.")


def load_settings() -> Settings:
    """The settings of the environment; raises BadSettings."""
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings(describe_error(error)) from error


def describe_error(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    variable = f"{PREFIX}{name.upper()}"
    meaning = Settings.model_fields[name].description
    if first["type"] == "missing":
        return f"{variable} is not set. {meaning}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{variable} is wrong: {message}. {meaning}"


def describe() -> list[tuple[str, str, str]]:
    """Every variable with its default and its meaning: the table of the README."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`" if field.default != "" else ""
        rows.append((f"{PREFIX}{name.upper()}", default, field.description or ""))
    return rows
