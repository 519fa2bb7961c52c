"""The command line of both nodes: a partnership made, a deal registered and edited, and what each mistake is answered with."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

import partner_node.cli
import vendor_node.cli
from deploy.kafka.secured import SecuredKafka
from partner_node.spec import SPEC
from shared_schema.crm import customers, deals
from shared_schema.crm.database import Database
from shared_schema.sync import partnerships
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import NodeSpec, Station
from tests.web.conftest import BUNDLE
from vendor_node.spec import SPEC as VENDOR

Run = Callable[..., str]
PROGRAMS = {"partner": partner_node.cli.main, "vendor": vendor_node.cli.main}
DETAILS = ("--intro-note", "They know us.", "--pain", "Spreadsheets.", "--next-steps", "Demo on Monday.")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, kafka_address: str) -> Run:
    """Run a node's command; what it prints. `code` is the exit code that it should end with: then what it says about the error."""

    def run_program(side: str, *arguments: str, code: int = 0, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        usual = {"DATABASE": f"sqlite:///{tmp_path}/{side}.db", "KAFKA": kafka_address, "ORGANISATION": "Initech"}
        with monkeypatch.context() as patch:
            for name, value in {**usual, **settings}.items():
                patch.setenv(f"DEALBRIDGE_{name}", value)
            patch.setenv("COLUMNS", "200")
            patch.setattr(sys, "argv", [f"{side}-node", *arguments])
            with pytest.raises(SystemExit) as ended:
                PROGRAMS[side]()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told.out + told.err
        return (told.err if code else told.out).strip()

    return run_program


def test_from_two_empty_stores_to_a_registered_deal(run: Run, tmp_path: Path) -> None:
    for side in ("partner", "vendor"):
        assert "run `" in run(side, "deals", "list", code=1)
        assert "at revision" in run(side, "migrate")
        assert run(side, "seed").startswith("dbt_")
        assert run(side, "deals", "list") == "nothing"
    assert run("vendor", "users", "add", "Rita", "rita@initech.example") == "2"
    run("vendor", "reps", "add", "2", "--weight", "3", "--territory", "DE")
    run("vendor", "reps", "out", "2", "2026-12-24", "--until", "2026-12-26")
    assert "2026-12-26" in run("vendor", "reps", "list")
    bundle = tmp_path / "bundle.json"
    partnership = run("vendor", "partners", "invite", "Acme", str(bundle))
    assert json.loads(bundle.read_text())["partnership"] == partnership
    run("partner", "join", str(bundle))
    assert "Initech" in run("partner", "partnerships", "list") and "Acme" in run("vendor", "partners", "list")
    assert json.loads(run("partner", "status", "--json"))[0]["backlog"] == 0


def test_a_deal_is_saved_noted_and_shown(run: Run, tmp_path: Path) -> None:
    plant_partner(run, tmp_path)
    assert run("partner", "registrations", "convert", "1", *DETAILS) == "1"
    saved = run("partner", "deals", "save", "1", "next_step=Call them", 'amount={"amount": "12.5", "currency": "EUR"}')
    assert saved.count("written") == 2
    fields = json.loads(run("partner", "deals", "show", "1"))["deal"]["fields"]
    assert (fields["next_step"]["value"], fields["amount"]["value"]) == ("Call them", {"amount": "12.5", "currency": "EUR"})
    assert run("partner", "notes", "add", "1", "for us alone") and run("partner", "notes", "add", "1", "for both", "--shared")
    assert "for us alone" in run("partner", "notes", "list", "1")
    assert run("partner", "conflicts", "list") == "nothing"
    assert run("partner", "dead-letters", "list") == run("partner", "sync", "refused") == "nothing"
    assert run("partner", "dead-letters", "replay", "--all") == "nothing"
    assert json.loads(run("partner", "status", "--json"))[0]["backlog"] >= 3
    run("partner", "tokens", "revoke", "1")
    assert run("partner", "tokens", "create", "admin@example.com").startswith("dbt_")


def test_a_deals_registrations_are_compared_saved_and_taken(run: Run, tmp_path: Path) -> None:
    plant_partner(run, tmp_path)
    run("partner", "registrations", "convert", "1", *DETAILS)
    assert run("partner", "registrations", "save", "1", "next_step=ours", "--mine").count("written") == 1
    compared = json.loads(run("partner", "registrations", "compare", "1", "--json"))
    assert (compared[0]["next_step"], compared[1][0]["differs"]) == ("ours", ["next_step"])
    assert "ours" in run("partner", "registrations", "compare", "1")
    assert run("partner", "registrations", "save", "1", "next_step=both", "--to", "1").count("written") == 2
    assert json.loads(run("partner", "registrations", "compare", "1", "--json"))[1][0]["differs"] == []
    run("partner", "registrations", "save", "1", "next_step=ours", "--mine")
    assert "next_step" in run("partner", "registrations", "take", "1")
    assert json.loads(run("partner", "registrations", "compare", "1", "--json"))[0]["next_step"] == "both"


def test_the_vendor_brings_a_partner_in(run: Run, tmp_path: Path) -> None:
    run("vendor", "migrate")
    run("vendor", "seed")
    partnership = run("vendor", "partners", "invite", "Acme", str(tmp_path / "acme.json"))
    asyncio.run(plant_deal(f"sqlite:///{tmp_path}/vendor.db", VENDOR))
    assert run("vendor", "registrations", "people", partnership) == "nothing"
    asked = ("registrations", "invite", "1", "Acme", "--intro-note", "Would you?")
    assert "reach out" in run("vendor", *asked, code=1)
    assert run("vendor", *asked, "--confirmed") == "1"
    assert run("vendor", "registrations", "similar", "1") == "nothing"
    assert "invited" in run("vendor", "registrations", "compare", "1")


async def plant_deal(url: str, spec: NodeSpec) -> None:
    """One deal that can be shared."""
    database = Database(url)
    async with Station(spec, database, SystemClock()).working() as work:
        company = await customers.add_company(work.tx, {"name": "Globex", "domain": "globex.example"}, work.now_ms)
        contact = await customers.add_contact(work.tx, {"name": "Hank", "email": "h@g.example", "company_id": company}, work.now_ms)
        await deals.add_deal(work.tx, {"name": "Roll-out", "company_id": company, "contact_ids": [contact]}, 1, work.now_ms)
    await database.close()


def test_two_companies_over_a_secured_broker_need_a_bundle_and_a_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secured_kafka: SecuredKafka
) -> None:
    """The vendor's settings name its user, the partner's only where to keep what the bundle brings. Bundles are their owner's alone."""
    vendor = asyncio.run(secured_kafka.add_vendor("initech"))
    secured = {"KAFKA": secured_kafka.address, "KAFKA_CA": str(vendor.ca), "KAFKA_USER": "initech", "KAFKA_PASSWORD": vendor.password}
    (tmp_path / "secrets").mkdir()
    for side in ("vendor", "partner"):
        run(side, "migrate")
        run(side, "seed")
    bundles = [tmp_path / "first.json", tmp_path / "second.json"]
    partnership = run("vendor", "partners", "invite", "Acme", str(bundles[0]), settings=secured)
    run("vendor", "partners", "rotate", "Acme", str(bundles[1]), settings=secured)
    for number, bundle in enumerate(bundles, start=1):
        assert bundle.stat().st_mode & 0o777 == 0o600
        assert "DEALBRIDGE_SECRETS" in run("partner", "join", str(bundle), code=1)
        assert run("partner", "join", str(bundle), settings={"SECRETS": str(tmp_path / "secrets")}) == partnership
        kept = json.loads((tmp_path / "secrets" / f"{partnership}.json").read_text())
        assert (kept["user"], kept["address"]) == (f"{partnership}.{number}", secured_kafka.address)
    for act in ("retire", "suspend", "resume", "topics", "revoke"):
        assert run("vendor", "partners", act, "Acme", settings=secured) == partnership
    assert "anew" in run("vendor", "partners", "resume", "Acme", code=1, settings=secured)
    assert "terminated" in run("vendor", "partners", "list")
    journal = run("vendor", "sync", "journal", partnership)
    assert "credential made" in journal and "credentials retired" in journal and "partner revoked" in journal and "Admin" in journal


def test_a_broker_that_is_away_loses_no_invitation(run: Run, tmp_path: Path) -> None:
    run("vendor", "migrate")
    bundle = tmp_path / "bundle.json"
    told = run("vendor", "partners", "invite", "Acme", str(bundle), code=1, settings={"KAFKA": "127.0.0.1:1"})
    assert "does not answer" in told and "partners rotate" in told and told.count("\n") == 0
    partnership = run("vendor", "partners", "rotate", "Acme", str(bundle))
    assert json.loads(bundle.read_text())["partnership"] == partnership


def plant_partner(run: Run, tmp_path: Path) -> None:
    """A partner with one deal that can be converted, made through the API's own functions."""

    url = f"sqlite:///{tmp_path}/partner.db"

    async def plant() -> None:
        await plant_deal(url, SPEC)
        database = Database(url)
        async with Station(SPEC, database, SystemClock()).working() as work:
            await partnerships.join(work, BUNDLE)
        await database.close()

    run("partner", "migrate")
    run("partner", "seed")
    asyncio.run(plant())


MISTAKES = [
    (("join", "/nowhere/bundle.json"), 1, "can not be read"),
    (("deals", "save", "1", "next_step"), 1, "FIELD=VALUE"),
    (("deals", "show", "99"), 1, "99"),
    (("deals", "save", "99", "name=x"), 1, "99"),
    (("notes", "add", "99", "body"), 1, "99"),
    (("conflicts", "settle", "99", "keep"), 1, "99"),
    (("tokens", "create", "nobody@acme.example"), 1, "nobody@acme.example"),
    (("users", "add", "Ann", "not-an-address"), 1, "ann@acme.example"),
    (("registrations", "convert", "99", *DETAILS), 1, "join first"),
    (("registrations", "answer", "99", "accepted"), 1, "99"),
    (("registrations", "compare", "99"), 1, "99"),
    (("registrations", "take", "99"), 1, "99"),
    (("registrations", "save", "99", "name=x", "--to", "1"), 1, "99"),
    (("registrations", "save", "99", "name=x", "--to", "1", "--mine"), 1, "exclude each other"),
    (("dead-letters", "show", "99"), 1, "99"),
    (("dead-letters", "replay"), 1, "--all"),
    (("dead-letters", "discard", "99", "--reason", "x"), 1, "99"),
    (("sync", "resume", "nobody"), 1, "nobody"),
    (("deals", "list", "--as", "x"), 2, "--as"),
    (("trace", "7"), 1, "takes an id such as"),
    (("trace", "01998f50-0000-7000-8000-000000000002", "--store-only"), 1, "there is no event"),
    (("verify", "nobody"), 2, "there is no partnership nobody"),
    (("repair", "nobody", "--as", "ghost@acme.example"), 2, "there is no user ghost@acme.example"),
    (("verify", "nobody", "--wait", "0"), 2, "should be greater than or equal to 1"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), MISTAKES, ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "")
def test_a_mistake_is_one_clear_line(run: Run, arguments: tuple[str, ...], code: int, told: str) -> None:
    run("partner", "migrate")
    run("partner", "seed")
    said = run("partner", *arguments, code=code)
    assert told in said and "Traceback" not in said


def test_a_bad_setting_ends_with_code_two(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEALBRIDGE_PORT", "eighty")
    said = run("partner", "run", code=2)
    assert said.startswith("dealbridge: DEALBRIDGE_PORT") and "\n" not in said
