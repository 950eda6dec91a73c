"""No money moves inside a transaction: nothing waits for another system while a connection or a row lock is held."""

import ast
from collections.abc import Iterator, Sequence

import pytest

from tests.architecture.calls import CallGraph
from tests.architecture.source import SERVICES, Module, entered, modules, snippet

_CLIENT = """
class Payments:
    async def create(self): ...
    def path(self): ...
"""
_BEHAVIOUR = """
from reservation_service.clients.payments import Payments

class Steps:
    def __init__(self, payments: Payments, database):
        self._payments = payments
        self._database = database

    async def _create(self):
        return await self._payments.create()

    async def good(self):
        async with self._database.transaction("good") as tx:
            self._payments.path()
        async with external_call("pay"):
            await self._payments.create()

    async def direct(self):
        async with self._database.transaction("direct") as tx:
            await self._payments.create()

    async def hidden(self):
        async with self._database.transaction("hidden") as tx:
            await self._create()

@dataclass
class Step:
    do: RemoteAct

async def by_definition(step: Step, database):
    async with database.transaction("by_definition"):
        later = step.do
        await step.do(1)

async def handle(payments: Payments):
    async with external_call("handle"):
        await payments.create()

HANDLERS: dict = {"payment.created": handle}

async def by_table(database, payments, kind):
    async with database.transaction("by_table"):
        if kind in HANDLERS:
            await HANDLERS[kind](payments)

async def handed_on(steps: "Steps | None", database):
    async with database.transaction("handed_on"):
        await asyncio.wait_for(steps._payments.create(), 1)
"""
# What lends a pooled connection for the length of an `async with`.
_LENDERS = ("transaction", "reading", "snapshot")
_EXAMPLE = (
    snippet(_CLIENT, "reservation_service/clients/payments.py"),
    snippet(_BEHAVIOUR, "reservation_service/saga/steps.py"),
)


def network_in_transactions(service: Sequence[Module]) -> Iterator[str]:
    """Find calls that leave the process, or may, inside `async with ...transaction(...)`."""
    graph = CallGraph(service)
    for module in service:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncWith) and any(entered(node, lent) for lent in _LENDERS):
                for reference in graph.references_within(module, ast.Module(body=node.body, type_ignores=[])):
                    if reference.target in graph.reaching:
                        yield module.at(reference.node, f"{reference.target} is reached inside a transaction")


def calls_without_crash_points(service: Sequence[Module]) -> Iterator[str]:
    """Find calls that leave the process and stand outside `async with external_call("name")`, on either side."""
    graph = CallGraph(service)
    own = {name for name in graph.reaching if graph.leaves(name)}
    for reference in graph.references:
        inside = reference.inside in own
        if reference.target in own and not inside and not _stands_in_external_call(reference.module, reference.node):
            yield reference.module.at(reference.node, f"{reference.target} has no crash point before and after it")


def _stands_in_external_call(module: Module, call: ast.AST) -> bool:
    return any(
        isinstance(node, ast.AsyncWith)
        and entered(node, "external_call")
        and any(inner is call for inner in ast.walk(node))
        for node in ast.walk(module.tree)
    )


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_leaves_the_process_inside_a_transaction(service: str) -> None:
    """P06, peers B5.67: no transaction waits for another system, not even behind a function that does."""
    assert not list(network_in_transactions(modules(service)))


@pytest.mark.parametrize("service", SERVICES)
def test_every_call_that_leaves_has_crash_points(service: str) -> None:
    """A test can kill the process right before and right after every call to another system."""
    assert not list(calls_without_crash_points(modules(service)))


def test_the_rule_sees_direct_hidden_and_wrapped_calls() -> None:
    """The rule finds the call in the transaction, one method further away, and inside another call; and only those."""
    lines = sorted(int(line.split(":")[1]) for line in network_in_transactions(_EXAMPLE))
    source = _BEHAVIOUR.splitlines()
    assert [source[line - 1].strip() for line in lines] == [
        "await self._payments.create()",
        "await self._create()",
        "await step.do(1)",
        "await HANDLERS[kind](payments)",
        "await asyncio.wait_for(steps._payments.create(), 1)",
    ]


def test_the_rule_sees_a_call_without_crash_points() -> None:
    """Of the five calls of the example, the two inside external_call are the only ones that are silent."""
    assert len(list(calls_without_crash_points(_EXAMPLE))) == 3


@pytest.mark.parametrize("service", SERVICES)
def test_the_rule_finds_the_calls_of_the_service(service: str) -> None:
    """The call graph sees calls to clients and gateway at all, so the rules above are about something."""
    graph = CallGraph(modules(service))
    assert any(graph.leaves(reference.target) for reference in graph.references)
