"""Companies, contacts and pipelines."""

from fastapi import APIRouter

from shared_schema.crm import customers
from shared_schema.crm.tables import companies, contacts
from shared_schema.sync.merging import merge_companies, merge_contacts
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import After, Id, Json, Limit, Line, PathId, Payload, page
from shared_schema.web.requests import PersistentRoute

router = APIRouter(prefix="/api", tags=["customers"], route_class=PersistentRoute)


class Company(Payload):
    name: Line
    domain: Line | None = None
    country: Line | None = None
    industry: Line | None = None
    owner_id: Id | None = None


class CompanyChange(Payload):
    name: Line = ""
    domain: Line = ""
    country: Line | None = None
    industry: Line | None = None
    owner_id: Id | None = None


class Contact(Payload):
    name: Line
    email: Line | None = None
    phone: Line | None = None
    company_id: Id | None = None


class Stage(Payload):
    name: Line
    outcome: Line = "open"


class Pipeline(Payload):
    name: Line
    stages: list[Stage]


@router.get("/companies", summary="List companies")
async def list_companies(station: Here, _: Caller, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        return page(await customers.list_rows(connection, companies, after, limit))


@router.post("/companies", status_code=201, summary="Add a company")
async def add_company(company: Company, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        company_id = await customers.add_company(work.tx, company.model_dump(exclude_unset=True), work.now_ms)
        return await customers.load_company(work.tx, company_id)


@router.get("/companies/{company_id}", summary="Read a company")
async def read_company(company_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await customers.load_company(connection, company_id)


@router.patch("/companies/{company_id}", summary="Change a company")
async def change_company(company_id: PathId, company: CompanyChange, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await customers.change_company(work.tx, company_id, company.model_dump(exclude_unset=True))
        return await customers.load_company(work.tx, company_id)


@router.get("/contacts", summary="List contacts")
async def list_contacts(station: Here, _: Caller, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        return page(await customers.list_rows(connection, contacts, after, limit))


@router.post("/contacts", status_code=201, summary="Add a contact")
async def add_contact(contact: Contact, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        contact_id = await customers.add_contact(work.tx, contact.model_dump(), work.now_ms)
        return await customers.load_contact(work.tx, contact_id)


@router.get("/contacts/{contact_id}", summary="Read a contact")
async def read_contact(contact_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await customers.load_contact(connection, contact_id)


class CompanyMerge(Payload):
    """`company_id`: the company that is taken over; its id leads to this one afterwards."""

    company_id: Id


class ContactMerge(Payload):
    """`contact_id`: the contact that is taken over; its id leads to this one afterwards."""

    contact_id: Id


@router.post("/companies/{company_id}/merge", summary="Take another company over: its deals, contacts, and what this one lacks")
async def merge_company(company_id: PathId, merged: CompanyMerge, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        return await customers.load_company(work.tx, await merge_companies(work, company_id, merged.company_id))


@router.post("/contacts/{contact_id}/merge", summary="Take another contact over: its deals, and what this one lacks")
async def merge_contact(contact_id: PathId, merged: ContactMerge, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        return await customers.load_contact(work.tx, await merge_contacts(work, contact_id, merged.contact_id))


@router.get("/pipelines", summary="List pipelines with their stages")
async def list_pipelines(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await customers.list_pipelines(connection)}


@router.post("/pipelines", status_code=201, summary="Add a pipeline")
async def add_pipeline(pipeline: Pipeline, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        stages = [(each.name, each.outcome) for each in pipeline.stages]
        return {"id": await customers.add_pipeline(work.tx, pipeline.name, stages)}
