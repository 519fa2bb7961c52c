"""The partner's answer to an invitation: the vendor brought it into a deal, and it takes part or does not."""

from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.sync.capture import Captured, Write
from shared_schema.sync.registrations import open_shared_deal
from shared_schema.sync.station import Work

ANSWERS = ("accepted", "declined")


async def answer(work: Work, shared_deal_id: int, said: str, reason: str | None = None) -> Captured:
    """Accept or decline. Raises WrongState where nothing waits for an answer."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if said not in ANSWERS:
        raise Invalid("answer", f"takes one of {', '.join(ANSWERS)}")
    if row["status"] != "invited":
        raise WrongState(f"this registration is {row['status']}: there is no invitation to answer", field="answer")
    value = {"answer": said, "reason": reason, "at": work.now_ms}
    return await work.capture(row["partnership"], row["uid"], "registration.answered", [Write(row["uid"], "answer", value)])
