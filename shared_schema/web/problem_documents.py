"""Errors as RFC 9457 problem documents: one clear error each, with the field and the remedy."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from shared_schema.contract.records import InvalidValue
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.problems import Problem
from shared_schema.sync.capture import NotWritable
from shared_schema.sync.outbox import EventTooLarge
from shared_schema.sync.transport import BrokerError

TYPE_PREFIX = "urn:dealbridge:problem:"
MEDIA_TYPE = "application/problem+json"
STATUS_OF_CODE = {"not_found": 404, "invalid": 422, "not_allowed": 403, "wrong_state": 409, "refused": 409}
RETRY_S = 2


def make_problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem document; empty parts are left out."""
    document = {"type": TYPE_PREFIX + code, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    content = {name: value for name, value in document.items() if value is not None}
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


async def answer_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return make_problem(STATUS_OF_CODE[error.code], error.code, str(error), field=error.field, remedy=error.remedy, link=error.link)


async def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """The first thing in a request that does not fit."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    detail = f"{field}: {first['msg'].removeprefix('Value error, ')}"
    return make_problem(422, "invalid", detail, field=field, remedy="correct it; /docs describes every request")


async def answer_value(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidValue)
    return make_problem(422, "invalid", str(error), field=error.field, remedy=error.remedy)


async def answer_not_writable(_request: Request, error: Exception) -> JSONResponse:
    return make_problem(403, "not_allowed", str(error), remedy="ask the other side to change it")


async def answer_conflicting(_request: Request, _error: Exception) -> JSONResponse:
    """A row that another one forbids: a name or key that is taken, or a reference to what is not there."""
    return make_problem(409, "wrong_state", "it is taken already, or refers to something that does not exist")


async def answer_large(_request: Request, error: Exception) -> JSONResponse:
    return make_problem(413, "too_large", str(error))


async def answer_unavailable(_request: Request, _error: Exception) -> JSONResponse:
    """What went wrong is for the log; who asks has only to wait."""
    retry = {"Retry-After": str(RETRY_S)}
    return make_problem(503, "unavailable", "the store or the broker can not be reached now; nothing was changed or it is not known", retry)


async def answer_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return make_problem(error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail), error.headers)


async def answer_bug(_request: Request, _error: Exception) -> JSONResponse:
    return make_problem(500, "internal", "this is a bug of Dealbridge; the log has the details")


ANSWERS = {
    Problem: answer_problem,
    RequestValidationError: answer_invalid,
    InvalidValue: answer_value,
    NotWritable: answer_not_writable,
    IntegrityError: answer_conflicting,
    EventTooLarge: answer_large,
    DatabaseUnavailable: answer_unavailable,
    BrokerError: answer_unavailable,
    HTTPException: answer_http,
    Exception: answer_bug,
}


def answer_errors(app: FastAPI) -> None:
    for kind, answer in ANSWERS.items():
        app.add_exception_handler(kind, answer)
