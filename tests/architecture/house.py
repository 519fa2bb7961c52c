"""The rules of the house that no linter knows, each a function from one source file to the lines that break it."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("partner_node", "vendor_node", "shared_schema", "deploy")
MODULE_LINES = 399
FUNCTION_LINES = 50
PARAMETERS = 6
EMPTY_NAMES = {"util", "utils", "manager", "managers", "helper", "helpers", "base", "common", "misc"}
DATABASE = "shared_schema/crm/database.py"
CLOCK = "shared_schema/sync/clock.py"
METRICS = "shared_schema/sync/metrics.py"
BROKER = "shared_schema/sync/broker/"
INSIGHTS = "shared_schema/sync/insights/"
INSIGHTS_PROCESS = "shared_schema/web/insights_process.py"
CHANCE = {"time", "random", "secrets"}
CLOCK_READERS = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom"}
EXCEPTION = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<rest>.*)$")
REASON = re.compile(r"(#|-|—)\s*\w.{7,}")

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One file: its path from the root and its text."""

    path: str
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text, self.path)))

    @property
    def is_product(self) -> bool:
        return self.path.startswith(PACKAGES)

    @property
    def is_node(self) -> bool:
        """Whether the code runs in a node, where time and chance come from the clock."""
        return self.is_product and not self.path.startswith("deploy")


Broken = Iterator[tuple[int, str]]
Rule = Callable[[Source], Broken]


def sources() -> list[Source]:
    """Every Python file of the repository."""
    places = (*PACKAGES, "tests")
    paths = sorted(path for place in places for path in (ROOT / place).rglob("*.py"))
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


def modules_are_short(source: Source) -> Broken:
    lines = source.text.count("\n")
    if lines > MODULE_LINES and "/migrations/" not in source.path:
        yield 1, f"{lines} lines; a module has fewer than {MODULE_LINES + 1}"


def functions_are_short(source: Source) -> Broken:
    if "/migrations/" in source.path:  # a migration is one list of tables
        return
    for node in source.nodes:
        if isinstance(node, FUNCTIONS):
            lines = body_lines(node)
            if lines > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines; a function has at most {FUNCTION_LINES}"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def parameters_are_few(source: Source) -> Broken:
    lines = source.text.splitlines()
    for node in source.nodes:
        if isinstance(node, FUNCTIONS) and "noqa: PLR0913" not in lines[node.lineno - 1]:
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > PARAMETERS:
                yield node.lineno, f"{node.name} takes {count} parameters; at most {PARAMETERS}"


def names_say_something(source: Source) -> Broken:
    stem = Path(source.path).stem
    empty = EMPTY_NAMES.intersection(stem.lower().split("_"))
    if empty:
        yield 1, f"a module named {stem} says nothing: name it after what it holds"


def names_are_given_once(source: Source) -> Broken:
    """A second thing of the same name in a module takes the first one's place, and its readers do not notice."""
    given: set[str] = set()
    for node in ast.parse(source.text, source.path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        names = {
            each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }
        names |= {node.name} if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else set()
        for name in sorted(names & given):
            yield node.lineno, f"{name} is given a second time in this module"
        given |= names


def one_place_commits(source: Source) -> Broken:
    if not source.is_product or source.path == DATABASE:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("commit", "begin"):
            yield node.lineno, f".{node.func.attr}() outside {DATABASE}: use database.transaction()"


def one_place_reads_the_clock(source: Source) -> Broken:
    if not source.is_node or source.path == CLOCK:
        return
    for line, module, name in imports(source):
        if module in CHANCE and not (source.path == METRICS and name == "perf_counter"):
            yield line, f"imports {module}: time and chance come from {CLOCK}"
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_READERS:
            yield node.lineno, f".{node.func.attr}() outside {CLOCK}: take milliseconds or bits as an argument"


def one_place_knows_kafka(source: Source) -> Broken:
    if source.is_product and not source.path.startswith(BROKER):
        for line, module, _ in imports(source):
            if module == "aiokafka" or module.startswith("aiokafka."):
                yield line, f"imports aiokafka: only {BROKER} may"


def one_place_knows_faust(source: Source) -> Broken:
    """And of the sync's own modules none knows the statistics: they follow the topics, and nobody waits for them."""
    if not source.is_product or source.path.startswith(INSIGHTS):
        return
    for line, module, name in imports(source):
        if module.partition(".")[0] in ("faust", "mode"):
            yield line, f"imports {module}: only {INSIGHTS} may"
        if f"{module}.{name}".startswith("shared_schema.sync.insights") and source.path != INSIGHTS_PROCESS:
            yield line, f"imports the statistics: only {INSIGHTS_PROCESS} may"


def apply_never_captures(source: Source) -> Broken:
    if source.path.startswith("shared_schema/sync/apply"):
        for line, module, name in imports(source):
            if f"{module}.{name}".startswith("shared_schema.sync.capture"):
                yield line, "imports capture: what was received is never captured as a change of ours"


def exceptions_have_reasons(source: Source) -> Broken:
    if source.path == "tests/architecture/test_house.py":  # its examples break the rules on purpose
        return
    for number, text in enumerate(source.text.splitlines(), start=1):
        found = EXCEPTION.search(text)
        if found and not REASON.search(found["rest"]):
            yield number, "an exception without its reason: write it beside, after a #"


def imports(source: Source) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of every import; a plain import has no name."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)


RULES: tuple[Rule, ...] = (
    modules_are_short,
    functions_are_short,
    parameters_are_few,
    names_say_something,
    names_are_given_once,
    one_place_commits,
    one_place_reads_the_clock,
    one_place_knows_kafka,
    one_place_knows_faust,
    apply_never_captures,
    exceptions_have_reasons,
)
