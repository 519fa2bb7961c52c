"""Partnerships: the vendor invites, which draws the id, the topics and a bundle; the partner's join stores it."""

import json
import re
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.identifiers import policy_uid
from shared_schema.contract.policy import PRESETS, TERMS, check_rules
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import all_topics, is_partnership
from shared_schema.crm.problems import Invalid, NotFound, WrongState
from shared_schema.crm.projected_tables import persons
from shared_schema.crm.tables import ENDED, partnerships
from shared_schema.crm.users import load_user
from shared_schema.sync.capture import Creation, Write
from shared_schema.sync.journal import note
from shared_schema.sync.station import Work
from shared_schema.sync.tables import restorations
from shared_schema.sync.transport import Broker

BUNDLE_FORMAT = "dealbridge-bundle-1"
VERBS = {"active": "resumed", "suspended": "suspended", "terminated": "revoked"}


def name_partnership(own: str, peer: str, bits: int) -> str:
    """A new id from both names and 32 random bits: lower case, no dot."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{own}-{peer}".lower()).strip("-")[:48].strip("-")
    return f"{slug}-{bits:08x}" if slug else f"p-{bits:08x}"


async def invite(work: Work, own_name: str, peer_name: str, broker: str, terms: dict[str, Any] | None = None) -> dict[str, Any]:
    """Begin a partnership at the vendor; the bundle for the partner. Create its topics afterwards with `create_topics`."""
    if work.side != "vendor":
        raise WrongState("a partnership begins at the vendor", remedy="ask the vendor for a bundle and join with it")
    policy = check_terms({"preset": "default", "approval": "auto", "capacity": 100, **(terms or {})})
    partnership = name_partnership(own_name, peer_name, work.incarnation.clock.random_bits(32))
    await store(work, partnership, (own_name, peer_name), broker, policy)
    await write_policy(work, partnership, policy)
    return make_bundle(await load(work.tx, partnership))


def make_bundle(row: dict[str, Any], address: str | None = None) -> dict[str, Any]:
    """What the partner needs to know of a partnership of the vendor's; `address` is the broker's where the partner reaches it."""
    return {
        "format": BUNDLE_FORMAT,
        "partnership": row["id"],
        "vendor": row["own_name"],
        "partner": row["peer_name"],
        "broker": address or row["broker"],
        "topics": all_topics(row["id"]),
        "policy": json.loads(row["terms"]),
    }


def check_terms(terms: dict[str, Any]) -> dict[str, Any]:
    """The policy's terms; raises Invalid naming the one that is wrong."""
    for name, value in terms.items():
        if name not in TERMS:
            raise Invalid(name, f"is no term of a policy; there are {', '.join(TERMS)}")
        if name == "preset" and value not in PRESETS:
            raise Invalid("preset", f"takes one of {', '.join(PRESETS)}")
        if name == "approval" and value not in ("auto", "manual"):
            raise Invalid("approval", "takes auto or manual")
    if "rules" in terms:
        try:
            check_rules(terms["rules"])
        except ValueError as error:
            raise Invalid("rules", str(error)) from error
    return terms


async def write_policy(work: Work, partnership: str, terms: dict[str, Any]) -> None:
    """The policy as a shared record of the vendor's; it travels like any other."""
    uid = policy_uid(partnership)
    writes = [Write(uid, name, value) for name, value in sorted(terms.items())]
    await work.capture(partnership, None, "policy.changed", writes, [Creation(uid, "policy", None, None)])


async def change_policy(work: Work, partnership: str, terms: dict[str, Any]) -> None:
    """The vendor changes its policy."""
    await load(work.tx, partnership)
    await write_policy(work, partnership, check_terms(terms))


async def store(work: Work, partnership: str, names: tuple[str, str], broker: str, terms: dict[str, Any]) -> None:
    row = {"id": partnership, "own_name": names[0], "peer_name": names[1], "broker": broker, "status": "active"}
    row["terms"] = json.dumps(terms, sort_keys=True)
    await work.tx.execute(insert(partnerships).values(**row, created_ms=work.now_ms))
    work.woken.add("partnerships")


async def create_topics(broker: Broker, partnership: str) -> None:
    """The partnership's four topics; again is harmless. Raises BrokerUnavailable."""
    await broker.create_topics(all_topics(partnership))


async def join(work: Work, bundle: Any) -> str:
    """Store a vendor's bundle; the partnership's id. Joining again with the same bundle changes nothing."""
    if work.side != "partner":
        raise WrongState("only a partner joins", remedy="invite the partner instead and send it the bundle")
    checked = check_bundle(bundle)
    partnership = str(checked["partnership"])
    known = await work.tx.execute(select(partnerships.c.id).where(partnerships.c.id == partnership))
    if known.scalar_one_or_none() is None:
        await store(work, partnership, (checked["partner"], checked["vendor"]), checked["broker"], checked["policy"])
        await note(work, partnership, None, "partnership joined", checked["vendor"])
    return partnership


def check_bundle(bundle: Any) -> dict[str, Any]:
    if not isinstance(bundle, dict) or bundle.get("format") != BUNDLE_FORMAT:
        raise Invalid("bundle", f"is not of the format {BUNDLE_FORMAT}; use the file that the vendor's `partners invite` wrote")
    for name in ("partnership", "vendor", "partner", "broker"):
        if not isinstance(bundle.get(name), str) or not bundle[name]:
            raise Invalid("bundle", f"lacks {name}; ask the vendor for a new one")
    if not is_partnership(bundle["partnership"]):
        raise Invalid("bundle", "names a partnership id that is not one")
    if not isinstance(bundle.get("policy"), dict):
        raise Invalid("bundle", "lacks policy; ask the vendor for a new one")
    check_terms(bundle["policy"])
    check_way(bundle)
    return bundle


def check_way(bundle: dict[str, Any]) -> None:
    """The optional parts: how to come in at the broker."""
    if bundle.get("security", "plaintext") not in ("plaintext", "tls", "sasl_tls"):
        raise Invalid("bundle", "asks for a security that this version does not know; upgrade this node")
    if not isinstance(bundle.get("ca"), str | None):
        raise Invalid("bundle", "holds a CA that is no text; ask the vendor for a new one")
    credential = bundle.get("credential")
    if credential is None and bundle.get("security") != "sasl_tls":
        return
    if not isinstance(credential, dict) or not all(isinstance(credential.get(name), str) for name in ("user", "password")):
        raise Invalid("bundle", "lacks a user and a password; ask the vendor for a new one")


async def load(tx: AsyncConnection, partnership: str) -> dict[str, Any]:
    row = (await tx.execute(select(partnerships).where(partnerships.c.id == partnership))).mappings().one_or_none()
    if row is None:
        raise NotFound("partnership", partnership)
    return dict(row)


async def list_all(tx: AsyncConnection) -> list[dict[str, Any]]:
    return [dict(row) for row in (await tx.execute(select(partnerships).order_by(partnerships.c.created_ms, partnerships.c.id))).mappings()]


async def choose(tx: AsyncConnection, named: str | None) -> str:
    """The partnership meant by its id or the other organisation's name; the only one if none is named. Raises Invalid."""
    known = await list_all(tx)
    found = [row["id"] for row in known if named in (None, row["id"], row["peer_name"])]
    if len(found) == 1:
        return str(found[0])
    names = ", ".join(row["peer_name"] for row in known) or "none yet: invite or join first"
    raise Invalid("partnership", f"takes one of {names}")


async def change_status(work: Work, partnership: str, status: str) -> dict[str, Any]:
    """Active, suspended or terminated; the last is for good. Whether it changed is in the journal; the same again is harmless."""
    row = await load(work.tx, partnership)
    if row["status"] == ENDED != status:
        raise WrongState(f"the partnership with {row['peer_name']} was revoked", remedy="invite them anew: that is another partnership")
    if row["status"] != status:
        await work.tx.execute(update(partnerships).where(partnerships.c.id == partnership).values(status=status))
        await note(work, partnership, None, "partner " + VERBS[status], row["peer_name"])
        if status == ENDED:
            await work.tx.execute(delete(restorations).where(restorations.c.partnership == partnership))  # nobody answers any more
        work.woken.add("partnerships")
    return {**row, "status": status}


async def set_lead_recipient(work: Work, partnership: str, user_id: int | None) -> None:
    """Who owns deals that the vendor registers for this partner; the vendor hears of them as a person whom it can name."""
    user = await load_user(work.tx, user_id) if user_id is not None else None
    done = await work.tx.execute(update(partnerships).where(partnerships.c.id == partnership).values(lead_recipient_id=user_id))
    if not done.rowcount:
        raise NotFound("partnership", partnership)
    if user is not None:
        writes = [Write(user["uid"], name, user[name]) for name in ("name", "role", "active")]
        await work.capture(partnership, None, "person.changed", writes, [Creation(user["uid"], "person", None, None)])


async def list_people(tx: AsyncConnection, partnership: str, side: Side) -> list[dict[str, Any]]:
    """The people of a side whom this partnership knows, by name."""
    await load(tx, partnership)
    columns = [persons.c[name] for name in ("id", "name", "role", "active")]
    where = (persons.c.partnership == partnership, persons.c.side == side)
    return [dict(row) for row in (await tx.execute(select(*columns).where(*where).order_by(persons.c.name, persons.c.id))).mappings()]


def read_bundle(text: str) -> Any:
    """A bundle file's content; raises Invalid."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("bundle", f"is not JSON: {error}") from error
