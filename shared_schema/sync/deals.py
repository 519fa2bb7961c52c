"""A person's or program's save of a deal: own columns here, shared fields into the registers of the registrations that it goes to.

A save goes to the registrations that it names, one write each; where it names none, each field goes to those that showed what the deal had
before it. With one open registration that shows the same as the deal, the column follows it. Otherwise the column is this side's own, and
what each registration says is read beside it: nothing that one partner writes reaches another but by a save of this side.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.policy import Policy, display, may_write, value_of
from shared_schema.contract.records import DEAL_FIELDS, KINDS
from shared_schema.contract.registers import Context, Side, covers, encode_value
from shared_schema.crm.customers import find_stage
from shared_schema.crm.deals import change_deal, check_values, load_deal
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, NotHereYet, WrongState
from shared_schema.crm.shared_records import SharedRecord, load_records
from shared_schema.sync.capture import Captured, FieldResult, Write
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import (
    Row,
    is_living,
    list_registrations,
    load_shared_deal,
    open_shared_deal,
    read_tokens,
)
from shared_schema.sync.station import Work

Tokens = Mapping[str, Any]


class Saved(NamedTuple):
    """What became of each field: `registration` is None for a column of the node's own."""

    field: str
    result: str
    registration: int | None = None
    seen: str | None = None


class Standing(NamedTuple):
    """A registration of a deal, its deal record's document, the fields in which that shows what the deal has, and those that are this
    side's to write."""

    row: Row
    document: Document
    policy: Policy
    agreeing: frozenset[str]
    writable: frozenset[str]


class Targets(NamedTuple):
    """Where a save goes: `named`, tokens by registration, None where it names none; `seen`, the tokens for a single open one."""

    named: Mapping[int, Tokens] | None
    seen: Tokens

    def goes(self, standing: Standing, field: str) -> bool:
        """Whether a field goes to a registration. A token of what it showed names it, too. What is not this side's to write there goes
        by name alone, and is then refused; else it is this side's own."""
        if self.named is not None:
            return standing.row["id"] in self.named
        return field in standing.agreeing & standing.writable or field in self.seen

    def tokens(self, standing: Standing) -> Tokens:
        return self.seen if self.named is None else self.named[standing.row["id"]]


async def save_deal(
    work: Work, deal_id: int, values: Mapping[str, Any], seen: Tokens | None = None, named: Mapping[int, Tokens] | None = None
) -> list[Saved]:
    """Save columns of a deal. `named`: the shared deals that it goes to, each with its tokens by field (none: it stays on this side);
    `seen`: tokens of the single open one, where none is named."""
    check_values(values)
    deal, known = await hold(work, deal_id)
    standings = [each for each in known if is_living(each.row)]
    targets = choose_targets(deal, standings, seen, named)
    asked = {name: values[name] for name in DEAL_FIELDS if name in values} | await place_stage(work, values)
    goes = [(each, {name: value for name, value in asked.items() if targets.goes(each, name)}) for each in standings]
    followed = goes[0][0].agreeing & goes[0][1].keys() if len(goes) == 1 else frozenset()
    own = {name: value for name, value in values.items() if name not in followed}
    if own:
        await change_deal(work.tx, deal["id"], own, work.author.user_id, work.now_ms)
    saved = [Saved(name, "written") for name in own]
    for standing, fields in goes:
        if fields:
            saved += await write_fields(work, standing.row, fields, targets.tokens(standing))
    return saved


async def hold(work: Work, deal_id: int) -> tuple[Row, list[Standing]]:
    """The deal and how its registrations stand to it. Their records are held, before the deal is, as apply does it; then all is read
    again, because it may have changed until they were."""
    deal_id = (await load_deal(work.tx, deal_id))["id"]
    held = await hold_records(work, await list_registrations(work.tx, deal_id))
    deal = await load_deal(work.tx, deal_id)
    standings = []
    for row in await list_registrations(work.tx, deal_id):
        record = held.get((row["partnership"], deal_uid(row["uid"])))
        if record is not None:
            policy = await load_policy(work.tx, row["partnership"])
            agreeing = find_agreeing(work.side, deal, record.document, policy)
            standings.append(Standing(row, record.document, policy, agreeing, find_writable(work.side, record, policy)))
    return deal, standings


async def hold_records(work: Work, rows: Sequence[Row]) -> dict[tuple[str, str], SharedRecord]:
    """The records of these registrations and of their deals by partnership and uid, held in the order in which everybody holds them."""
    uids: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        uids[row["partnership"]] |= {row["uid"], deal_uid(row["uid"])}
    held: dict[tuple[str, str], SharedRecord] = {}
    for partnership, wanted in sorted(uids.items()):
        found = await load_records(work.tx, partnership, wanted)
        held |= {(partnership, uid): record for uid, record in found.items()}
    return held


def find_writable(side: Side, record: SharedRecord, policy: Policy) -> frozenset[str]:
    """The fields of a registration's deal that a side may write."""
    return frozenset(name for name in KINDS["deal"].fields if may_write(policy, "deal", name, side, record.side))


def find_agreeing(side: str, deal: Row, document: Document, policy: Policy) -> frozenset[str]:
    """The fields in which a registration shows what the deal has; this side's stage, too, until it was told."""
    shown = {name: value_of(document, name, policy.display_rule("deal", name)) for name in DEAL_FIELDS}
    same = {name for name, value in shown.items() if encode_value(value) == encode_value(deal[name])}
    stage = f"{side}_stage"
    told = value_of(document, stage)
    return frozenset(same | ({stage} if told in (None, {"pipeline": deal["pipeline"], "stage": deal["stage"]}) else set()))


def choose_targets(deal: Row, standings: Sequence[Standing], seen: Tokens | None, named: Mapping[int, Tokens] | None) -> Targets:
    """Raises Invalid for a registration that is not open in this deal, and for tokens that could be of several."""
    known = {each.row["id"] for each in standings}
    for shared_deal_id in named or {}:
        if shared_deal_id not in known:
            those = ", ".join(str(each) for each in sorted(known)) or "none"
            raise Invalid(
                "registrations", f"names {shared_deal_id}, which is not open in this deal; {those} is", f"/api/deals/{deal['id']}"
            )
    if seen and (named is not None or len(standings) > 1):
        raise Invalid("seen", "belongs to one registration: give each one's tokens with it in registrations")
    return Targets(named, seen or {})


async def place_stage(work: Work, values: Mapping[str, Any]) -> Row:
    """This side's stage, mirrored read-only on the other."""
    if "stage" not in values and "pipeline" not in values:
        return {}
    _, _, pipeline, stage = await find_stage(work.tx, values.get("pipeline"), values.get("stage"))
    return {f"{work.side}_stage": {"pipeline": pipeline, "stage": stage}}


async def take_over(
    work: Work,
    shared_deal_id: int,
    fields: Sequence[str] = (),
    seen: Tokens | None = None,
    named: Mapping[int, Tokens] | None = None,
) -> list[Saved]:
    """Take what a registration shows into the deal's own columns: the named fields, or all in which they differ. It goes to the other
    registrations that are named, and by itself to none. Raises WrongState where a value is no longer what `seen` was the token of."""
    row = await load_shared_deal(work.tx, shared_deal_id)
    deal, standings = await hold(work, row["deal_id"])
    standing = next((each for each in standings if each.row["id"] == shared_deal_id), None)
    if standing is None:
        raise NotHereYet
    values = read_values(standing, fields, read_tokens(seen))
    await note(work, row["partnership"], row["uid"], "values taken over", ", ".join(values))
    return await save_deal(work, deal["id"], values, None, named or {})


def read_values(standing: Standing, fields: Sequence[str], contexts: Mapping[str, Context]) -> Row:
    """The values that a registration shows: of these fields, or of those that differ from the deal's."""
    values = {}
    for name in fields or [name for name in DEAL_FIELDS if name not in standing.agreeing]:
        if name not in DEAL_FIELDS:
            raise Invalid("fields", f"takes {', '.join(DEAL_FIELDS)}, not {name}")
        shown = display(standing.document.get(name), standing.policy.display_rule("deal", name))
        if shown and name in contexts and not covers(contexts[name], shown.dot):
            link = f"/api/deals/{standing.row['deal_id']}"
            raise WrongState(f"{name} was changed after it was read", field=name, remedy="read the deal again", link=link)
        values[name] = shown.value if shown else None
    return values


async def write_fields(work: Work, row: Row, fields: Mapping[str, Any], seen: Tokens | None) -> list[Saved]:
    """Write shared fields of one registration's deal; each field's outcome."""
    uid, contexts = deal_uid(row["uid"]), read_tokens(seen)
    writes = [Write(uid, name, value, contexts.get(name)) for name, value in fields.items()]
    captured = await work.capture(row["partnership"], row["uid"], "deal.changed", writes)
    return [as_saved(each, row["id"]) for each in captured.fields]


def as_saved(result: FieldResult, registration: int | None) -> Saved:
    return Saved(result.field, result.result, registration, result.seen)


async def save_shared(work: Work, shared_deal_id: int, values: Mapping[str, Any], seen: Tokens | None = None) -> list[Saved]:
    """Save shared fields of one registration, whatever else its deal is shared in."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if row["state"] == "deleted":
        raise WrongState("this deal is deleted", remedy="restore it first", link=f"/api/shared-deals/{shared_deal_id}/restore")
    for name in values:
        if name not in DEAL_FIELDS:
            raise Invalid(name, f"is not a shared field that this side writes; there are {', '.join(DEAL_FIELDS)}")
    if seen and LIFE in seen:
        raise Invalid("seen", "takes tokens of the fields that are saved")
    return await write_fields(work, row, values, seen)


def outcome_of(captured: Captured) -> list[Saved]:
    """The outcome of a command without a registration's id."""
    return [as_saved(each, None) for each in captured.fields]
