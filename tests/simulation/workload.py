"""Random people: each client does what it likes, with what it saw a while ago, at any moment. Refusals are part of life here; what was
acknowledged is remembered for the checker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from partner_node.invitations import ANSWERS, answer
from partner_node.registrations import share_from_contact
from shared_schema.contract.documents import Document
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.registers import Register, encode_token
from shared_schema.sync import conflicts, erasing, notes, offers, partnerships, people, registrations, verification
from shared_schema.sync.deals import save_deal, save_shared, take_over
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.station import Work
from tests.checker import demand
from tests.simulation.actor import Actor
from tests.simulation.deeds import DEED
from tests.simulation.script import keep_private
from tests.simulation.template import DETAILS
from tests.simulation.world import Attempt, World
from vendor_node.assigning import reassign
from vendor_node.decisions import DECISIONS, decide
from vendor_node.invitations import Invitation, bring_in

STEPS_MAX = 14
PAUSE_S = 1.5
FIELDS = ("name", "amount", "close_date", "next_step")

Doing = Callable[[Work], Awaitable[Any]]


async def live(world: World) -> None:
    """A client at each node, at once."""
    await asyncio.gather(*(Client(world, actor).live() for actor in world.actors))


class Client:
    """Somebody at one node, with the pages that they have open."""

    def __init__(self, world: World, actor: Actor) -> None:
        self.world = world
        self.random = world.random
        self.actor = actor
        self.pages: dict[tuple[int, str], tuple[str, str, Register]] = {}

    async def live(self) -> None:
        for _ in range(self.random.randint(4, STEPS_MAX)):
            await asyncio.sleep(self.random.random() * PAUSE_S)
            name = self.random.choices(list(DOINGS), weights=[weight for weight, _ in DOINGS.values()])[0]
            await DOINGS[name][1](self)

    async def do(self, name: str, doing: Doing) -> Any:
        return await self.actor.act(name, doing, free=True)

    def pick(self, table: str, where: str = "1") -> int | None:
        found = self.actor.rows(f"SELECT id FROM {table} WHERE {where} ORDER BY id")
        return self.random.choice(found)[0] if found else None

    def open_page(self, shared_deal: int, field: str) -> None:
        """What is shown now of one field; a save from this page covers it."""
        rows = "SELECT partnership, uid FROM shared_deals WHERE id = ?"
        ((partnership, registration),) = self.actor.rows(rows, shared_deal)
        found = self.actor.rows("SELECT document FROM shared_records WHERE uid = ?", deal_uid(registration))
        if found:
            self.pages[shared_deal, field] = partnership, deal_uid(registration), Document.decode(found[0][0]).get(field)

    async def look(self) -> None:
        shared_deal = self.pick("shared_deals")
        if shared_deal is not None:
            self.open_page(shared_deal, self.random.choice(FIELDS))

    async def save(self) -> None:
        """From a page that was opened before, or just now."""
        shared_deal, field = self.pick("shared_deals"), self.random.choice(FIELDS)
        if shared_deal is None:
            return
        if (shared_deal, field) not in self.pages or self.random.random() < 0.5:
            self.open_page(shared_deal, field)
        partnership, uid, shown = self.pages.get((shared_deal, field), ("", "", Register({}, ())))
        attempt = Attempt(self.actor.name, partnership, uid, field, shown.context)
        token, value = {field: encode_token(shown.context)}, self.make_value(field)
        await self.attempt(attempt, "save", lambda work: save_shared(work, shared_deal, {field: value}, token))

    def make_value(self, field: str) -> Any:
        number = self.random.randint(1, 4)
        if field == "amount":
            return {"amount": str(number), "currency": "EUR"}
        return f"2027-01-0{number}" if field == "close_date" else f"{field} {number}"

    async def attempt(self, attempt: Attempt, name: str, doing: Doing) -> None:
        """Do it, and remember what was asked for, and which dot an acknowledged one has."""
        self.world.attempted.append(attempt)

        async def remember(work: Work) -> tuple[str, int] | None:
            done = await doing(work)
            result = done.fields[-1].result if hasattr(done, "fields") else done[-1].result
            deed = DEED.get()
            made = [(dot.incarnation, dot.counter) for dot in (deed.written if deed else ()) if dot[:3] == attempt[1:4]]
            demand(bool(made) == (result != "unchanged"), f"{attempt} is {result}, and wrote {made}")
            return made[-1] if made else None

        dot = await self.do(name, remember)
        if isinstance(dot, tuple):
            self.world.attempted.append(attempt._replace(dot=dot))

    async def settle(self) -> None:
        found = self.actor.rows("SELECT id, partnership, uid, field FROM conflicts ORDER BY id")
        if not found:
            return
        id, partnership, uid, field = self.random.choice(found)
        ((document,),) = self.actor.rows("SELECT document FROM shared_records WHERE partnership = ? AND uid = ?", partnership, uid)
        shown = Document.decode(document).get(field)
        token, choice = encode_token(shown.context), self.random.choice(("keep", "theirs", "edit" if field in FIELDS else "keep"))
        value = self.make_value(field) if choice == "edit" else None
        attempt = Attempt(self.actor.name, partnership, uid, field, shown.context)
        await self.attempt(attempt, "settle", lambda work: conflicts.settle(work, id, choice, value, seen=token))

    async def share(self) -> None:
        if self.actor.side == "partner":
            contact = self.pick("contacts")
            name = f"deal {self.random.randint(1, 99)}"
            await self.do("share", lambda work: share_from_contact(work, None, contact, {"name": name}, DETAILS))

    async def write_note(self) -> None:
        shared_deal = self.pick("shared_deals")
        if shared_deal is not None:
            await self.do("note", lambda work: notes.add_note(work, shared_deal, "something"))

    async def keep_private(self) -> None:
        deal = self.pick("deals", "merged_into IS NULL")
        if deal is not None:
            await self.do("private", keep_private(self.actor, deal))

    async def change_text(self) -> None:
        kind, table = self.random.choice((("note", "shared_notes"), ("comment", "comments")))
        text = self.pick(table, f"side = '{self.actor.side}'")
        doing: Any = self.random.choice((notes.remove, notes.bring_back, lambda *those: notes.edit(*those, "something else")))
        if text is not None:
            await self.do(f"change {kind}", lambda work: doing(work, kind, text))

    async def comment(self) -> None:
        note = self.pick("shared_notes")
        if note is not None:
            await self.do("comment", lambda work: notes.add_comment(work, note, "a comment"))

    async def offer(self) -> None:
        shared_deal, line = self.pick("shared_deals"), self.pick("products")
        quantity = str(self.random.randint(1, 5))
        doings: list[Doing] = [
            lambda work: offers.put_product(work, shared_deal, self.random.choice(("CRM", "ERP")), None, quantity),
            lambda work: offers.remove(work, "product", line),
            lambda work: offers.put_member(work, shared_deal, 1, "sales"),
            lambda work: offers.put_quote(work, shared_deal, {"number": quantity, "status": "sent"}),
            lambda work: offers.put_eligibility(work, shared_deal, {"eligible": True, "rate": quantity}),
        ]
        if shared_deal is not None and line is not None:
            await self.do("offer", self.random.choice(doings))

    async def delete(self) -> None:
        shared_deal = self.pick("shared_deals")
        doing: Any = self.random.choice((registrations.delete_anyway, registrations.restore, registrations.restore, delete_for_both))
        if shared_deal is not None:
            await self.do("delete or restore", lambda work: doing(work, shared_deal))

    async def end(self) -> None:
        """What ends a registration, or nearly."""
        shared_deal = self.pick("shared_deals")
        doings: list[Any] = [
            registrations.unshare,
            registrations.leave,
            registrations.come_back,
            lambda *those: registrations.withdraw(*those, "no interest"),
        ]
        if shared_deal is not None:
            doing = self.random.choice(doings)
            await self.do("end", lambda work: doing(work, shared_deal))

    async def save_named(self) -> None:
        """A deal's column, told to the registrations that are named: to all that it has, or to some, or to none."""
        deal, field = self.pick("deals", "merged_into IS NULL"), self.random.choice(FIELDS)
        if deal is not None:
            open_ones = [id for (id,) in self.actor.rows("SELECT id FROM shared_deals WHERE deal_id = ? ORDER BY id", deal)]
            named = {id: {} for id in self.random.sample(open_ones, self.random.randint(0, len(open_ones)))}
            value = self.make_value(field)
            await self.do("save named", lambda work: save_deal(work, deal, {field: value}, None, named))

    async def take_over(self) -> None:
        shared_deal, others = self.pick("shared_deals"), self.pick("shared_deals")
        if shared_deal is not None and others is not None:
            await self.do("take over", lambda work: take_over(work, shared_deal, [], None, {others: {}} if others != shared_deal else None))

    async def invite(self) -> None:
        """The vendor brings a partner into a deal; a partner says yes or no."""
        deal, invited = self.pick("deals", "merged_into IS NULL"), self.pick("shared_deals", "status = 'invited'")
        if self.actor.side == "vendor" and deal is not None:
            partnership = self.random.choice(self.actor.rows("SELECT id FROM partnerships ORDER BY id"))[0]
            invitation = Invitation("You know them.", confirmed=True)
            await self.do("bring in", lambda work: bring_in(work, deal, partnership, invitation))
        elif invited is not None:
            said = self.random.choice(ANSWERS)
            await self.do("answer", lambda work: answer(work, invited, said))

    async def erase(self) -> None:
        kind, table = self.random.choice((("note", "shared_notes"), ("comment", "comments")))
        text, shared_deal = self.pick(table, f"side = '{self.actor.side}'"), self.pick("shared_deals")
        if text is not None and self.random.random() < 0.7:
            await self.do(f"erase {kind}", lambda work: erasing.erase_text(work, kind, text))
        elif shared_deal is not None:
            await self.do("erase deal", lambda work: erasing.erase_deal(work, shared_deal))

    async def merge(self) -> None:
        survivor, merged = self.pick("deals"), self.pick("deals")
        if survivor is not None and merged is not None:
            await self.do("merge", lambda work: merge_deals(work, survivor, merged))

    async def judge(self) -> None:
        shared_deal, decision = self.pick("shared_deals"), self.random.choice(DECISIONS)
        if self.actor.side == "vendor" and shared_deal is not None:
            doings: list[Doing] = [
                lambda work: decide(work, shared_deal, decision, "so we think"),
                lambda work: reassign(work, shared_deal, self.random.choice((1, 2))),
            ]
            await self.do("judge", self.random.choice(doings))
        elif shared_deal is not None:
            await self.do("answer", lambda work: registrations.submit_again(work, shared_deal, DETAILS))

    async def set_policy(self) -> None:
        if self.actor.side == "vendor":
            partnership = self.random.choice(self.actor.rows("SELECT id FROM partnerships ORDER BY id"))[0]
            approval = self.random.choice(("manual", "auto"))
            await self.do("policy", lambda work: partnerships.change_policy(work, partnership, {"approval": approval}))

    async def rename(self) -> None:
        await self.do("rename", lambda work: people.change_user(work, 1, {"name": f"Somebody {self.random.randint(1, 9)}"}))

    async def verify(self) -> None:
        partnership = self.random.choice(self.actor.rows("SELECT id FROM partnerships ORDER BY id"))[0]
        repair = self.random.random() < 0.5
        await self.do("verify", lambda work: verification.request(work, partnership, repair=repair))


async def delete_for_both(work: Work, shared_deal: int) -> Any:
    return await registrations.delete_for_both(work, shared_deal, None)


DOINGS: dict[str, tuple[int, Callable[[Client], Awaitable[None]]]] = {
    "look": (8, Client.look),
    "save": (12, Client.save),
    "settle": (3, Client.settle),
    "share": (3, Client.share),
    "note": (3, Client.write_note),
    "private": (2, Client.keep_private),
    "change text": (3, Client.change_text),
    "comment": (2, Client.comment),
    "offer": (4, Client.offer),
    "delete": (3, Client.delete),
    "end": (1, Client.end),
    "save named": (2, Client.save_named),
    "take over": (1, Client.take_over),
    "invite": (2, Client.invite),
    "erase": (1, Client.erase),
    "merge": (1, Client.merge),
    "judge": (2, Client.judge),
    "policy": (1, Client.set_policy),
    "rename": (1, Client.rename),
    "verify": (1, Client.verify),
}
