"""Two companies that each run their own directory of deploy/, and a broker somewhere else: the one of the other stack."""

import os
from contextlib import suppress

from deploy.stack.engine import DEPLOY, Compose
from tests.compose.stand import NAME, Failed, Node, Pair, Stand, check, docker, until

PLACES = ("vendor", "partner")
QUIET_S = 5.0


class Companies(Pair):
    """Each side's own project."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.settings = {
            "vendor": {"ORGANISATION": "Initech", "KAFKA": "kafka:9092", "PORT": stand.ports["PORT"]},
            "partner": {"ORGANISATION": "Acme", "PORT": stand.ports["PORT_TOO"]},
        }
        self.stacks = {
            place: Compose(DEPLOY / place / "compose.yaml", f"{place}-{NAME}", settings) for place, settings in self.settings.items()
        }

    def script(self, name: str, place: str) -> str:
        return self.stand.script(name, place, self.settings[place])

    def begin(self, place: str) -> Node:
        self.script(f"{place}-begins", place)
        token = (self.stand.directory / "admin-token").read_text().strip()
        return Node(place, self.stacks[place].address("web", 8080), token)

    def meet_broker(self, place: str) -> None:
        """The broker is somewhere else, under its name."""
        docker("network", "connect", "--alias", "kafka", f"{place}-{NAME}_out", self.stand.containers()["kafka"]["ID"])

    def leave(self) -> None:
        for place in PLACES:
            self.stacks[place].run("stop", "--timeout", "10")
            with suppress(Failed):  # where it did not come so far
                docker("network", "disconnect", "--force", f"{place}-{NAME}_out", self.stand.containers()["kafka"]["ID"])
            self.stacks[place].run("down", "--volumes", "--remove-orphans")

    def until_denied(self) -> None:
        """The partner's sync is told that it has no right."""
        sync = self.stacks["partner"]
        until("the partner is told", lambda: "no right" in sync.read("logs", "sync"))


def run_two_companies(stand: Stand) -> str:
    """Begin, share, rotate, suspend, resume, revoke: each by the manual's commands."""
    companies = Companies(stand)
    put_file(stand, "ca.pem", stand.stack.inside("vendor-web", "cat", "/secrets/vendor/ca.pem"))
    put_file(stand, "password", stand.stack.inside("vendor-web", "cat", "/secrets/vendor/kafka-password"))
    try:
        companies.vendor = companies.begin("vendor")
        companies.meet_broker("vendor")
        companies.script("vendor-invites", "vendor")
        bundle = stand.directory / "acme.json"
        check(bundle.stat().st_mode & 0o077 == 0, "others may read the bundle")
        companies.partner = companies.begin("partner")
        companies.meet_broker("partner")
        return live_a_partners_life(companies)
    finally:
        companies.leave()


def live_a_partners_life(companies: Companies) -> str:
    registration = companies.share()
    companies.edit_both(registration, "alone")
    companies.until_in_step(registration, "alone")
    companies.script("suspend", "vendor")
    companies.until_denied()
    companies.edit_both(registration, "while suspended")
    check("partner: while suspended" not in companies.vendor.notes(registration), "a suspended partner's note has arrived")
    companies.script("resume", "vendor")
    companies.until_in_step(registration, "alone", "while suspended")
    companies.script("revoke", "vendor")
    companies.edit_both(registration, "after the end")
    until("both go on alone", lambda: "partner: after the end" in companies.partner.notes(registration))
    if "partner: after the end" in companies.vendor.notes(registration):
        raise Failed("a revoked partner's note has arrived")
    return "begun, shared, suspended and resumed with nothing lost, revoked"


def put_file(stand: Stand, name: str, text: str) -> None:
    path = stand.directory / name
    path.touch(mode=0o600)
    os.chmod(path, 0o600)
    path.write_text(text)
