"""A node's settings, from the environment: DEALBRIDGE_…, frozen, each with its meaning. A bad one stops the process with one line."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url

from shared_schema.crm.database import BadDatabaseUrl, parse_url
from shared_schema.sync.braking import Limits
from shared_schema.sync.security import Protocol, Security
from shared_schema.sync.station import Keeping

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
    database_password_file: str = Field(
        "", description="A file with PostgreSQL's password, read at the start, where the URL has none; for its owner's eyes only."
    )
    kafka: Annotated[str, AfterValidator(check_brokers)] = Field(
        "127.0.0.1:9092", description="The broker: `host:port`, or several with commas."
    )
    kafka_security: Protocol | Literal[""] = Field(
        "", description="`plaintext`, `tls` or `sasl_tls`; left out, `sasl_tls` with a password, `tls` with a CA, else `plaintext`."
    )
    kafka_ca: str = Field("", description="A PEM file: who must have signed the broker's certificate; left out, the system's CAs.")
    kafka_user: str = Field("", max_length=200, description="The user at the broker.")
    kafka_password_file: str = Field("", description="A file with the password, read at every connection; for its owner's eyes only.")
    kafka_password: SecretStr = Field(SecretStr(""), description="The password itself, for development: prefer the file.")
    secrets: str = Field("", description="A directory in which `join` keeps the CA and the password of each vendor's broker.")
    organisation: str = Field("", max_length=200, description="This company's name, as partners see it.")
    host: str = Field("127.0.0.1", description="The address that the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="The port that the API listens on; 0 takes a free one.")
    insights_port: int = Field(8081, ge=0, le=65535, description="The port of the statistics (`insights`); 0 takes a free one.")
    role: Role = Field("all", description="What a process does: `web`, `sync` or `all`.")
    parked_max: int = Field(1_000, ge=1, description="So many records parked since the last `sync resume` stop a partnership's stream.")
    parked_per_minute: int = Field(100, ge=1, description="So many records parked within a minute stop it, too.")
    waiting_max: int = Field(
        100_000,
        ge=1,
        description="So many that only wait (for a parent, a newer version, a person's word) since the last `sync resume` stop it, too.",
    )
    outbox_max: int = Field(
        200_000,
        ge=1_000,
        description="So many unacknowledged events of a partnership are kept; more become whole states to send.",
    )
    keep_days: int = Field(
        0,
        ge=0,
        description="Histories, outcomes and the journal go after so many days, but for what is newest or unsettled; 0 for never.",
    )
    verify_minutes: int = Field(60, ge=0, description="After so many minutes both sides are compared again, and repaired; 0 for never.")
    brake_count: int = Field(100, ge=1, description="So many deletions, erasures or unsharings of a kind pass in the window; more wait.")
    brake_percent: int = Field(
        20,
        ge=0,
        le=100,
        description="And at most this part of the living ones of the kind (100: no such limit); five always pass.",
    )
    brake_minutes: int = Field(60, ge=1, description="The brake's window, for each partnership and direction.")
    trash_days: int = Field(90, ge=1, description="For so many days what was deleted can be restored; a week later its content goes.")
    topic_days: int = Field(9, ge=1, description="After so many days the broker has nothing of what was sent: retention and segment.")
    backup_days: int = Field(30, ge=0, description="How old this node's oldest backup gets: an erasure states when it is gone there.")
    erasure_list: str = Field("", description="The file of erasures that outlives a restore; by default `STORE.erasures`, beside SQLite's.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="One line of text or one JSON object per log record.")


def make_keeping(settings: Settings) -> Keeping:
    """What the settings say about keeping and destroying."""
    store = Path(str(parse_url(settings.database).database))
    beside = store if settings.database.startswith("sqlite") else Path(store.name)
    return Keeping(
        brake=Limits(settings.brake_count, settings.brake_percent, settings.brake_minutes * 60_000),
        trash_days=settings.trash_days,
        topic_days=settings.topic_days,
        backup_days=settings.backup_days,
        erasure_list=Path(settings.erasure_list) if settings.erasure_list else beside.with_name(f"{beside.name}.erasures"),
    )


def load_settings() -> Settings:
    """The settings of the environment; raises BadSettings."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise BadSettings(describe_error(error)) from error
    secure(settings)
    locate_store(settings)
    return settings


def locate_store(settings: Settings) -> str:
    """The store's URL whole, with the password that its file holds; raises BadSettings."""
    if not settings.database_password_file:
        return settings.database
    url, variable = make_url(settings.database), f"{PREFIX}DATABASE_PASSWORD_FILE"
    if url.password is not None or url.drivername.startswith("sqlite"):
        why = "SQLite has no password" if url.password is None else "the URL holds a password already"
        raise BadSettings(f"{variable} is wrong: {why}. Unset one of the two.")
    try:
        password = Path(settings.database_password_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{variable} is wrong: {settings.database_password_file} can not be read ({error}).") from error
    return url.set(password=password).render_as_string(hide_password=False)


def secure(settings: Settings) -> Security:
    """How to come in at the broker, by the settings; raises BadSettings where they contradict each other."""
    password, file = settings.kafka_password.get_secret_value(), settings.kafka_password_file
    protocol = settings.kafka_security or ("sasl_tls" if password or file else "tls" if settings.kafka_ca else "plaintext")
    check_credential(settings, protocol, has_password=bool(password or file))
    return Security(
        protocol,
        Path(settings.kafka_ca) if settings.kafka_ca else None,
        settings.kafka_user,
        password,
        Path(file) if file else None,
    )


def check_credential(settings: Settings, protocol: Protocol, *, has_password: bool) -> None:
    """Nothing may be set that would have no effect: it would look safer than it is."""
    if protocol == "sasl_tls":
        if not has_password:
            raise BadSettings(f"{PREFIX}KAFKA_PASSWORD_FILE is not set, but sasl_tls needs a password. Name the file that holds it.")
        if not settings.kafka_user:
            raise BadSettings(f"{PREFIX}KAFKA_USER is not set, but there is a password. Name the user whose it is.")
    elif has_password or settings.kafka_user:
        raise BadSettings(f"{PREFIX}KAFKA_SECURITY is wrong: {protocol} has no users, but one is set. Use sasl_tls, or unset it.")
    if protocol == "plaintext" and settings.kafka_ca:
        raise BadSettings(f"{PREFIX}KAFKA_SECURITY is wrong: plaintext verifies nothing, but a CA is set. Use tls or sasl_tls.")


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
        default = "required" if field.is_required() else f"`{field.default}`" if str(field.default) else ""
        rows.append((f"{PREFIX}{name.upper()}", default, field.description or ""))
    return rows
