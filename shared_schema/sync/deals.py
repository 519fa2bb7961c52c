"""A person's or program's save of a deal: own columns here, shared fields into the registers of the registrations that it goes to.

With one open registration the column follows the register. With several the column is the node's own, and the save goes to the
registrations that it names, or else to those that were in step with the deal before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shared_schema.contract.documents import LIFE
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.policy import value_of
from shared_schema.contract.records import DEAL_FIELDS
from shared_schema.contract.registers import encode_value
from shared_schema.contract.registration import OPEN
from shared_schema.crm.customers import find_stage
from shared_schema.crm.deals import change_deal, check_values, load_deal
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.shared_records import load_records
from shared_schema.sync.capture import Captured, FieldResult, Write
from shared_schema.sync.registrations import Row, list_registrations, open_shared_deal, read_tokens
from shared_schema.sync.station import Work


class Saved(NamedTuple):
    """What became of each field: `registration` is None for a column of the node's own."""

    field: str
    result: str
    registration: int | None = None
    seen: str | None = None


async def save_deal(
    work: Work, deal_id: int, values: Mapping[str, Any], seen: Mapping[str, Any] | None = None, named: Sequence[int] | None = None
) -> list[Saved]:
    """Save columns of a deal. `seen`: tokens by field, for its single open registration; `named`: the shared deals it goes to."""
    deal = await load_deal(work.tx, deal_id)
    deal_id = deal["id"]
    check_values(values)
    open_ones = [row for row in await list_registrations(work.tx, deal_id) if row["status"] in OPEN]
    shared = {name: values[name] for name in DEAL_FIELDS if name in values}
    following = len(open_ones) == 1
    own = {name: value for name, value in values.items() if not (following and name in shared)}
    if own:
        await change_deal(work.tx, deal_id, own, work.author.user_id, work.now_ms)
    saved = [Saved(name, "written") for name in own]
    for row in open_ones:
        fields = await choose_fields(work, row, deal, shared, (following, named))
        fields |= await place_stage(work, deal_id, values)
        if fields:
            saved += await write_fields(work, row, fields, seen if following else None)
    return saved


async def choose_fields(work: Work, row: Row, deal: Row, shared: Row, goes: tuple[bool, Sequence[int] | None]) -> Row:
    """The fields of a save that go to one registration."""
    following, named = goes
    if following or (named is not None and row["id"] in named):
        return dict(shared)
    return {} if named is not None else await in_step(work, row, deal, shared)


async def in_step(work: Work, row: Row, deal: Row, shared: Row) -> Row:
    """The fields where the registration showed what the deal had before."""
    uid = deal_uid(row["uid"])
    record = (await load_records(work.tx, row["partnership"], [uid]))[uid]
    policy = await load_policy(work.tx, row["partnership"])
    before = {name: value_of(record.document, name, policy.display_rule("deal", name)) for name in shared}
    return {name: value for name, value in shared.items() if encode_value(before[name]) == encode_value(deal[name])}


async def place_stage(work: Work, deal_id: int, values: Mapping[str, Any]) -> Row:
    """This side's stage, mirrored read-only on the other."""
    if "stage" not in values and "pipeline" not in values:
        return {}
    _, _, pipeline, stage = await find_stage(work.tx, values.get("pipeline"), values.get("stage"))
    return {f"{work.side}_stage": {"pipeline": pipeline, "stage": stage}}


async def write_fields(work: Work, row: Row, fields: Mapping[str, Any], seen: Mapping[str, Any] | None) -> list[Saved]:
    """Write shared fields of one registration's deal; each field's outcome."""
    uid, contexts = deal_uid(row["uid"]), read_tokens(seen)
    writes = [Write(uid, name, value, contexts.get(name)) for name, value in fields.items()]
    captured = await work.capture(row["partnership"], row["uid"], "deal.changed", writes)
    return [as_saved(each, row["id"]) for each in captured.fields]


def as_saved(result: FieldResult, registration: int | None) -> Saved:
    return Saved(result.field, result.result, registration, result.seen)


async def save_shared(work: Work, shared_deal_id: int, values: Mapping[str, Any], seen: Mapping[str, Any] | None = None) -> list[Saved]:
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
