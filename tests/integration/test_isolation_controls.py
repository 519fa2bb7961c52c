"""Whatever control message one partner sends, in the other's name or about the other's things: the answer knows nothing of the other."""

import json
import re
from typing import Any, NamedTuple

from sqlalchemy import select

from shared_schema.contract.codec import HEADER_CONTROL
from shared_schema.contract.envelope import CONTROLS
from shared_schema.contract.identifiers import EPOCH_PATTERN, UID_PATTERN
from shared_schema.contract.topics import record_topic
from shared_schema.crm.tables import shared_records
from shared_schema.sync.relay import deliver
from shared_schema.sync.tables import outbound_epochs, parked
from shared_schema.sync.transport import Record
from tests.contract.golden import SAMPLES
from tests.integration.pair import until
from tests.integration.test_isolation import check_nothing_of, live, read_of, secrets_of, trio
from tests.integration.tries import check_tries
from tests.integration.trio import Trio, read_topic, read_whole_store

__all__ = ["trio"]

REQUEST = "01998f3e-2222-7000-8000-000000000001"  # who asks names it, so the answer may
LOOK = "feedfacefeedface"
ANSWERED = {"request": REQUEST, "look": LOOK}
SAMPLE_OF = {sample.type: json.loads(sample.value) for sample in SAMPLES if sample.type in CONTROLS}
LAST = ("sync.acknowledged", "sync.inspect")  # the acknowledgement has the vendor restore its store; the inspection's answer ends the wait


class Theirs(NamedTuple):
    """What Acme has found out of Besta: the uids of all records that only Besta has, and the epochs in which the vendor speaks to it."""

    uids: list[str]
    epochs: list[str]


async def find_out(trio: Trio) -> Theirs:
    found = []
    for column in (shared_records.c.uid, outbound_epochs.c.epoch):
        rows = await trio.vendor.rows(select(column, column.table.c.partnership))
        own = {each for each, partnership in rows if partnership == trio.partnerships["Acme"]}
        found.append(sorted({each for each, _ in rows} - own))
    assert all(found)
    return Theirs(*found)


def forge(value: Any, theirs: Theirs, name: str = "") -> Any:
    """A golden sample with the other's uids and epochs wherever it has any."""
    if name in ANSWERED:
        return ANSWERED[name]
    if isinstance(value, dict):
        epochs = dict.fromkeys(theirs.epochs, next(iter(value.values()))) if all(re.match(EPOCH_PATTERN, key) for key in value) else value
        return {key: forge(part, theirs, key) for key, part in epochs.items()}
    if isinstance(value, list):
        return theirs.uids if value and all(map(is_uid, value)) else [forge(each, theirs) for each in value]
    return theirs.uids[0] if is_uid(value) else value


def is_uid(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(UID_PATTERN, value))


def forge_all(theirs: Theirs, partnership: str) -> list[Record]:
    """One control message of every type that the contract knows."""
    kinds = [*(each for each in CONTROLS if each not in LAST), *LAST]
    return [make_record({**forge(SAMPLE_OF[kind], theirs), "partnership": partnership}) for kind in kinds]


def make_record(message: dict[str, Any]) -> Record:
    return Record(None, json.dumps(message).encode(), ((HEADER_CONTROL, message["type"].encode()),))


async def ask_vendor(trio: Trio, records: list[Record]) -> tuple[list[dict[str, Any]], str]:
    """What the vendor writes to Acme while these records come to it from Acme's topic: control messages, and all of it as text."""
    own, broker = trio.partnerships["Acme"], trio.partners["Acme"].broker
    before = len(await read_topic(broker, record_topic(own, "vendor")))
    end = {**SAMPLE_OF["sync.inspect"], "partnership": own, "look": "e" * 16, "uids": []}
    producer = await broker.open_producer()
    try:
        await deliver(await producer.send(record_topic(own, "partner"), [*records, make_record(end)]))
    finally:
        await producer.close()
    said: list[bytes] = []

    async def answered() -> bool:
        said[:] = (await read_topic(broker, record_topic(own, "vendor")))[before:]
        return any(b'"sync.shown"' in each and b"e" * 16 in each for each in said)

    await until(answered)
    await trio.settle()
    said[:] = (await read_topic(broker, record_topic(own, "vendor")))[before:]
    values = [json.loads(each) for each in said if each.startswith(b"{")]
    return [each for each in values if each["type"] in CONTROLS], b"\n".join(said).decode()


async def test_no_control_message_in_the_others_partnership_is_taken(trio: Trio) -> None:
    await live(trio)
    secrets, before = await secrets_of(trio, "Besta"), await read_of(trio, "Besta")
    own, other = trio.partnerships["Acme"], trio.partnerships["Besta"]
    answers, text = await ask_vendor(trio, forge_all(await find_out(trio), other))
    letters = await trio.vendor.rows(select(parked.c.partnership, parked.c.reason, parked.c.payload))
    told = sorted((row.partnership, row.reason, json.loads(row.payload)["type"]) for row in letters)
    assert told == sorted((own, "wrong_partnership", kind) for kind in CONTROLS)
    in_name = "in Besta's partnership"
    check_tries("Control messages", [(in_name, f"`{kind}`", f"parked: {reason}") for _, reason, kind in told], in_name)
    check_nothing_of(secrets, text, "the vendor's topic to Acme")
    check_nothing_of(secrets, await read_whole_store(trio.partners["Acme"]), "Acme's store")
    assert all(each.get("look") != LOOK and each["partnership"] == own for each in answers)
    assert await read_of(trio, "Besta") == before


async def test_a_control_message_about_the_others_records_and_epochs_is_answered_with_nothing_of_them(trio: Trio) -> None:
    await live(trio)
    own, other = trio.partnerships["Acme"], trio.partnerships["Besta"]
    columns = (shared_records.c.uid, shared_records.c.document)
    documents = select(*columns).where(shared_records.c.partnership == other).order_by(shared_records.c.uid)
    secrets, before = await secrets_of(trio, "Besta"), await trio.vendor.rows(documents)
    known = {row.uid for row in await trio.vendor.rows(select(shared_records.c.uid).where(shared_records.c.partnership == own))}
    answers, text = await ask_vendor(trio, forge_all(await find_out(trio), own))
    asked = [each for each in answers if each.get("look") == LOOK or each.get("request") == REQUEST]
    assert {"sync.shown", "sync.hashes"} <= {each["type"] for each in asked}, "each question is answered"
    assert [each["records"] for each in asked if each["type"] == "sync.shown"] == [[]]
    assert all(uid in known for each in asked if each["type"] == "sync.hashes" for uid, *_ in each["records"])
    assert await trio.vendor.rows(select(parked.c.reason)) == []
    check_nothing_of(secrets, text, "the vendor's topic to Acme")
    check_nothing_of(secrets, await read_whole_store(trio.partners["Acme"]), "Acme's store")
    assert await trio.vendor.rows(documents) == before
    await trio.check_same()
    about = "about Besta's records and epochs"
    words = {"sync.digest": "`sync.hashes` of Acme's own records", "sync.inspect": "`sync.shown` without a record"}
    check_tries("Control messages", [(about, f"`{kind}`", words.get(kind, "nothing of Besta's")) for kind in CONTROLS], about)
