"""How a node comes in at the broker: in the clear, over TLS, or over TLS with a user and a password. One frozen value, from the settings.

The credential is read whenever a connection is opened, so a new one takes effect while the node runs. No password is ever shown.
"""

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

Protocol = Literal["plaintext", "tls", "sasl_tls"]
OWNER_ONLY = 0o600
PASSWORD_BITS = 256


class Credential(NamedTuple):
    """A user's name at the broker, and the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.user!r})"


class CredentialUnreadable(Exception):
    """The file of the credential or of the CA can not be used; the message says what to do."""


@dataclass(frozen=True)
class Security:
    """`ca` is a PEM file, or None for the system's; the password is `password`, else what `password_file` holds. An `access_file`, which
    `join` wrote, holds user, password and CA, and then nothing else counts."""

    protocol: Protocol = "plaintext"
    ca: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    access_file: Path | None = None

    def read_credential(self) -> Credential:
        """Raises CredentialUnreadable."""
        if self.access_file is not None:
            access = read_access(self.access_file)
            return Credential(str(access["user"]), str(access["password"]))
        if self.password or self.password_file is None:
            return Credential(self.user, self.password)
        try:
            return Credential(self.user, self.password_file.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialUnreadable(
                f"the password can not be read from {self.password_file} ({error}); set DEALBRIDGE_KAFKA_PASSWORD_FILE to the file of it"
            ) from error

    def read_ca(self) -> str | None:
        """The CA as PEM text, None if it is the system's; raises CredentialUnreadable."""
        if self.access_file is not None:
            return read_access(self.access_file)["ca"]
        if self.ca is None:
            return None
        try:
            return self.ca.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialUnreadable(f"the CA can not be read from {self.ca} ({error}); set DEALBRIDGE_KAFKA_CA to its file") from error


def read_access(file: Path) -> dict[str, str | None]:
    """What `join` kept: address, security, user, password, ca. Raises CredentialUnreadable."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise CredentialUnreadable(f"{file} can not be read ({error}); join again with the vendor's bundle") from error


PLAINTEXT = Security()


def write_secret(path: Path, text: str) -> None:
    """Put a whole file in place that its owner alone can read, at once; whoever reads meanwhile reads the old or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # created for its owner only
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.chmod(name, OWNER_ONLY)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
