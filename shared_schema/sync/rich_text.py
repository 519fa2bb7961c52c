"""Rich text as it may be stored and shown: sanitised by nh3, with nothing that runs or loads."""

import nh3

from shared_schema.contract.records import TEXT_MAX
from shared_schema.crm.problems import Invalid

TAGS = {"a", "b", "blockquote", "br", "code", "em", "i", "li", "ol", "p", "pre", "s", "strong", "u", "ul"}


def clean(field: str, body: str | None) -> str:
    """The sanitised text; raises Invalid if nothing is left of it, or too much."""
    if not isinstance(body, str):
        raise Invalid(field, "takes text")
    if len(body) > TEXT_MAX:
        raise Invalid(field, f"takes at most {TEXT_MAX:,} characters")
    cleaned = nh3.clean(body, tags=TAGS, attributes={"a": {"href"}}, url_schemes={"http", "https", "mailto"})
    if not nh3.clean(cleaned, tags=set()).strip():
        raise Invalid(field, "may not be empty")
    if len(cleaned) > TEXT_MAX:
        raise Invalid(field, f"takes at most {TEXT_MAX:,} characters once its special characters are escaped")
    return cleaned
