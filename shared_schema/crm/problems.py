"""What a person or program asked for and can not have: one clear error each, with the field and the remedy. Nothing is half done."""


class Problem(Exception):
    """`field` names what is wrong, `remedy` says what to do, `link` is where to do it (a path of this node's API)."""

    code = "refused"

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None, link: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.remedy = remedy
        self.link = link


class NotFound(Problem):
    """There is no such thing here, or not for this person."""

    code = "not_found"

    def __init__(self, what: str, which: object) -> None:
        super().__init__(f"there is no {what} {which}", field=what.replace(" ", "_"), remedy=f"list the {what}s to see which there are")


class Invalid(Problem):
    """A value that the field can not hold, or a required one that is missing."""

    code = "invalid"

    def __init__(self, field: str, remedy: str, link: str | None = None) -> None:
        super().__init__(f"{field} {remedy}", field=field, remedy=remedy, link=link)


class NotAllowed(Problem):
    """This person, or this side, may not do it."""

    code = "not_allowed"


class WrongState(Problem):
    """It can not be done as things stand now; doing something else first may help."""

    code = "wrong_state"


class NotHereYet(WrongState):
    """Of a registration, the part in question has not come from the other side yet: a store that was put back gets them in pieces."""

    def __init__(self) -> None:
        super().__init__("this registration is not all here yet", remedy="wait until the rest of it has arrived")
