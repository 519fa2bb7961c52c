"""Shared deals: reading with tokens and sync states, saving, deleting, restoring, unsharing, the audit trail; and what is in them."""

from typing import Annotated

from fastapi import APIRouter, Query

from shared_schema.sync import notes, offers, registrations, views
from shared_schema.sync.deals import save_shared
from shared_schema.web.bearer import Caller, Here
from shared_schema.web.payloads import After, Body, Edit, Id, Json, Limit, Line, PathId, Payload, Save, Seen, page
from shared_schema.web.requests import PersistentRoute
from shared_schema.web.shown import show_captured, show_registration, show_shared

router = APIRouter(prefix="/api", tags=["shared deals"], route_class=PersistentRoute)


class Filters(Payload):
    partnership: Line | None = None
    status: Line | None = None
    state: Line | None = None
    deal_id: Id | None = None
    after: After = 0
    limit: Limit = 50


class Deletion(Payload):
    """`seen`: the tokens of the fields that were shown, and `life`'s; what they do not cover contests the deletion."""

    seen: Seen = {}


class Product(Payload):
    sku: Line
    name: Line | None = None
    quantity: Line | None = None


class Member(Payload):
    user_id: Id
    role: Line | None = None


@router.get("/shared-deals", summary="List registrations")
async def list_shared_deals(station: Here, _: Caller, filters: Annotated[Filters, Query()]) -> Json:
    given = filters.model_dump(exclude_none=True, exclude={"after", "limit"})
    async with station.database.reading() as connection:
        return page(await views.list_shared_deals(connection, given, filters.after, filters.limit))


@router.get("/shared-deals/{shared_deal_id}", summary="Read a shared deal: values, tokens, sync states, notes and the rest")
async def read_shared_deal(shared_deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await views.read_shared_deal(connection, station.spec.side, shared_deal_id)


@router.get("/shared-deals/{shared_deal_id}/audit", summary="The audit trail that both sides can read")
async def read_audit(shared_deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await views.read_audit(connection, shared_deal_id)


@router.patch("/shared-deals/{shared_deal_id}", summary="Save shared fields of one registration")
async def change_shared_deal(shared_deal_id: PathId, save: Save, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        saved = await save_shared(work, shared_deal_id, save.values, save.seen)
    return await show_shared(station, shared_deal_id, saved)


@router.post("/shared-deals/{shared_deal_id}/delete-for-both", summary="Delete the deal on both sides")
async def delete_for_both(shared_deal_id: PathId, deletion: Deletion, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.delete_for_both(work, shared_deal_id, deletion.seen)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/restore", summary="Restore a deleted or contested deal")
async def restore(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.restore(work, shared_deal_id)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/delete-anyway", summary="Settle a contested deletion by deleting")
async def delete_anyway(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.delete_anyway(work, shared_deal_id)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/unshare", summary="Stop sharing; both keep their copies")
async def unshare(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.unshare(work, shared_deal_id)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/leave", summary="Delete it here only; the other side is told")
async def leave(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.leave(work, shared_deal_id)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/notes", status_code=201, summary="Add a shared note")
async def add_note(shared_deal_id: PathId, note: Body, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        note_id = await notes.add_note(work, shared_deal_id, note.body)
    return await show_shared(station, shared_deal_id, id=note_id)


@router.post("/shared-deals/{shared_deal_id}/products", status_code=201, summary="Add or change a product of interest")
async def put_product(shared_deal_id: PathId, product: Product, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        line_id = await offers.put_product(work, shared_deal_id, product.sku, product.name, product.quantity)
    return await show_shared(station, shared_deal_id, id=line_id)


@router.delete("/products/{product_id}", summary="Remove a product of interest on both sides")
async def remove_product(product_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        part = await offers.load_line(work, "product", product_id)
        await offers.remove(work, "product", product_id)
    return await show_registration(station, part)


@router.post("/shared-deals/{shared_deal_id}/team", status_code=201, summary="Put a user of this side into the deal team")
async def put_member(shared_deal_id: PathId, member: Member, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        member_id = await offers.put_member(work, shared_deal_id, member.user_id, member.role)
    return await show_shared(station, shared_deal_id, id=member_id)


@router.delete("/team/{member_id}", summary="Take a member of this side out of the deal team")
async def remove_member(member_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        part = await offers.load_line(work, "member", member_id)
        await offers.remove(work, "member", member_id)
    return await show_registration(station, part)


@router.post("/notes/{note_id}/comments", status_code=201, summary="Comment on a shared note")
async def add_comment(note_id: PathId, comment: Body, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        comment_id = await notes.add_comment(work, note_id, comment.body)
        part = await notes.load_text(work, "comment", comment_id)
    return await show_registration(station, part, id=comment_id)


def serve_texts(kind: str, plural: str) -> None:
    """The same three routes for notes and comments."""

    @router.put(f"/{plural}/{{text_id}}", summary=f"Edit one's own {kind}", operation_id=f"edit_{kind}")
    async def edit(text_id: PathId, text: Edit, station: Here, author: Caller) -> Json:
        async with station.working(author) as work:
            await notes.edit(work, kind, text_id, text.body, text.seen)
            part = await notes.load_text(work, kind, text_id)
        return await show_registration(station, part)

    @router.delete(f"/{plural}/{{text_id}}", summary=f"Delete one's own {kind} on both sides", operation_id=f"delete_{kind}")
    async def remove(text_id: PathId, station: Here, author: Caller) -> Json:
        async with station.working(author) as work:
            await notes.remove(work, kind, text_id)
            part = await notes.load_text(work, kind, text_id)
        return await show_registration(station, part)

    @router.post(f"/{plural}/{{text_id}}/restore", summary=f"Restore one's own {kind}", operation_id=f"restore_{kind}")
    async def bring_back(text_id: PathId, station: Here, author: Caller) -> Json:
        async with station.working(author) as work:
            await notes.bring_back(work, kind, text_id)
            part = await notes.load_text(work, kind, text_id)
        return await show_registration(station, part)


serve_texts("note", "notes")
serve_texts("comment", "comments")
