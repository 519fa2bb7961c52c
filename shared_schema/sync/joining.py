"""The partner's end of an invitation: what the bundle says of the way to its vendor's broker is kept in one file per partnership, which
its owner alone can read, and which is read at every connection. Joining again with a new bundle changes the credential of a running node.
"""

import json
import ssl
from pathlib import Path
from typing import Any

from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.sync import partnerships
from shared_schema.sync.journal import note
from shared_schema.sync.security import CredentialUnreadable, Security, read_access, write_secret
from shared_schema.sync.station import Author, Station


async def join(station: Station, author: Author, secrets: Path | None, bundle: Any) -> str:
    """Keep the way to the broker, then the partnership, whose id is returned: whoever sees it finds the way."""
    checked = partnerships.check_bundle(bundle)
    keep_access(secrets, checked)
    async with station.working(author) as work:
        partnership = await partnerships.join(work, checked)
        if checked.get("credential"):
            await note(work, partnership, None, "credential kept", checked["credential"]["user"])
    return partnership


def access_file(secrets: Path, partnership: str) -> Path:
    return secrets / f"{partnership}.json"


def keep_access(secrets: Path | None, bundle: dict[str, Any]) -> None:
    """A plaintext broker is found by the settings alone; anything else needs a place for what must not get lost or seen."""
    protocol, ca, credential = bundle.get("security", "plaintext"), bundle.get("ca"), bundle.get("credential") or {}
    if protocol == "plaintext":
        return
    if secrets is None:
        message = "the bundle holds a credential, and there is no place for it"
        raise WrongState(message, remedy="set DEALBRIDGE_SECRETS to a directory that this node alone can read, and join again")
    check_authority(ca)
    access = {"address": bundle["broker"], "security": protocol, "ca": ca}
    access |= {"user": credential.get("user", ""), "password": credential.get("password", "")}
    try:
        write_secret(access_file(secrets, bundle["partnership"]), json.dumps(access, indent=2) + "\n")
    except OSError as error:
        message = f"the credential can not be kept in {secrets}: {error.strerror}"
        raise WrongState(message, remedy="set DEALBRIDGE_SECRETS to a directory that this node can write to, and join again") from error


def check_authority(ca: str | None) -> None:
    try:
        ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid("bundle", "holds a CA that is no certificate; ask the vendor for a new one") from error


def find_way(secrets: Path | None, partnership: str, address: str) -> tuple[str, Security] | None:
    """The address and the way in that a bundle brought, if one did. If its file can not be read, connecting will say so, at `address`."""
    if secrets is None or not (file := access_file(secrets, partnership)).exists():
        return None
    try:
        access = read_access(file)
    except CredentialUnreadable:
        return address, Security("sasl_tls", access_file=file)
    return str(access["address"]), Security("sasl_tls" if access["security"] == "sasl_tls" else "tls", access_file=file)
