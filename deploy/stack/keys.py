"""What opens the doors: certificates, passwords and the broker's settings, made at the first start into volumes, as files.

Safe to run again: what is there stays, but for a certificate that is about to end or lacks a host. Nothing of it is printed.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from deploy.kafka.certificates import Authority, issue, load_authority, make_authority, serves
from deploy.stack.broker_settings import Doors, write_client_settings, write_settings
from shared_schema.sync.security import write_secret

ROOT = Path("/secrets")
GROUP_TOO = 0o640  # the broker and the databases run as users of their own, in the nodes' group
SPARE = timedelta(days=60)
OPERATOR = "operator"
PARTS = ("broker", "vendor", "partner", "watch")


class Keys:
    """The files below one directory, a directory for each part of the stack."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, name: str, make: Callable[[], str], *, group: bool = False) -> str:
        """What the file holds; made if it is not there."""
        path = self.root / name
        if not path.exists():
            self.put(name, make(), group=group)
        return path.read_text().strip()

    def put(self, name: str, text: str, *, group: bool = False) -> None:
        path = self.root / name
        write_secret(path, text.strip() + "\n")
        if group:
            path.chmod(GROUP_TOO)

    def make(self, parts: Sequence[str], doors: Doors) -> None:
        """All that these parts need."""
        if "broker" in parts:
            self.make_broker(doors)
        if "vendor" in parts:
            self.keep("vendor/database-password", make_password, group=True)
        if "partner" in parts:
            self.keep("partner/database-password", make_password, group=True)
            (self.root / "partner" / "brokers").mkdir(mode=0o700, exist_ok=True)
        if "watch" in parts:
            self.keep("watch/grafana-password", make_password, group=True)

    def make_broker(self, doors: Doors) -> None:
        authority = self.keep_authority()
        for place in ("broker/ca.pem", "vendor/ca.pem"):
            self.put(place, authority.pem, group=True)
        pem = self.root / "broker/broker.pem"
        if not pem.exists() or not serves(pem.read_text(), authority, doors.hosts, SPARE):
            self.put("broker/broker.pem", issue(authority, doors.hosts), group=True)
        operator, controller = (self.keep(f"broker/{name}-password", make_password) for name in (OPERATOR, "controller"))
        self.keep("vendor/kafka-password", make_password)
        self.keep("broker/cluster-id", make_cluster_id, group=True)
        self.put("broker/first-user", f"SCRAM-SHA-512=[name={OPERATOR},password={operator}]", group=True)
        self.put("broker/server.properties", write_settings(doors, OPERATOR, operator, controller), group=True)
        self.put("broker/client.properties", write_client_settings(OPERATOR, operator), group=True)

    def keep_authority(self) -> Authority:
        """The authority of the first start; its key stays in a volume that nothing else mounts."""
        key, certificate = self.root / "authority/ca-key.pem", self.root / "authority/ca.pem"
        if key.exists() and certificate.exists():
            return load_authority(key.read_text(), certificate.read_text())
        authority = make_authority()
        self.put("authority/ca-key.pem", authority.key_pem)
        self.put("authority/ca.pem", authority.pem)
        return authority


def make_password() -> str:
    return secrets.token_urlsafe(32)


def make_cluster_id() -> str:
    """16 bytes in base64url, as Kafka wants them; a dash in front would look like an option."""
    return "D" + secrets.token_urlsafe(16)[1:]


def main() -> None:
    parser = argparse.ArgumentParser(prog="keys", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--renew", action="append", default=[], metavar="FILE", help="make this one anew, as vendor/kafka-password")
    parser.add_argument("--keep", metavar="FILE", help="put what comes on standard input there, as vendor/kafka-password")
    arguments = parser.parse_args()
    keys = Keys(ROOT)
    if arguments.keep:
        keys.put(arguments.keep, sys.stdin.read())
    for name in arguments.renew:
        (keys.root / name).unlink()
    keys.make(arguments.parts, Doors.of(os.environ))
    print(f"keys of {', '.join(arguments.parts)} are in place", flush=True)


if __name__ == "__main__":
    main()
