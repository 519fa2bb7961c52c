"""Which commands there are: what the API and the command line call to act on a store. And which of them a history used."""

import ast
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FrameType, ModuleType
from typing import Any

import partner_node
import shared_schema.web
import vendor_node
from tests.simulation.deeds import DEED

ACTS_ON = (["work"], ["station", "author"])
SURFACES = ("routes", "commands", "cli", "terminal")
# They make a partnership, or act at a broker with users: stages begin after the first, and the simulation's broker has no users.
ELSEWHERE = frozenset(
    {
        "shared_schema.sync.joining.join",
        "shared_schema.sync.partnerships.invite",
        "vendor_node.partners.change_status",
        "vendor_node.partners.equip",
        "vendor_node.partners.invite",
        "vendor_node.partners.retire",
        "vendor_node.partners.rotate",
    }
)


def find_commands() -> dict[CodeType, str]:
    """The functions that take a command's work, or a station and an author, and that routes or the command line name; by their code."""
    found: dict[CodeType, str] = {}
    for package in (shared_schema.web, partner_node, vendor_node):
        for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not each.name.endswith(SURFACES):
                continue
            module = import_module(each.name)
            found |= {called.__code__: f"{called.__module__}.{called.__name__}" for called in find_called(module) if is_command(called)}
    return found


def find_called(module: ModuleType) -> Iterator[Any]:
    """What a module names, its own functions and those of others."""
    names = vars(module)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Name):
            yield names.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield getattr(names.get(node.value.id), node.attr, None)


def is_command(called: Any) -> bool:
    if not inspect.iscoroutinefunction(called) or ".web" in called.__module__:
        return False
    named = list(inspect.signature(called).parameters)
    return any(named[: len(first)] == first for first in ACTS_ON)


@contextmanager
def noting_commands(used: set[str]) -> Iterator[None]:
    """While inside, what a client calls in any history is added to `used`."""
    commands = find_commands()

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in commands and DEED.get() is not None:
            used.add(commands[frame.f_code])

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)
