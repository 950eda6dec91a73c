"""Every file keeps every rule of the house, and every rule can still see."""

import pytest

from tests.architecture.rules import RULES, Rule
from tests.architecture.source import PACKAGES, modules, snippet

pytestmark = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def test_every_file_keeps_the_rule(rule: Rule) -> None:
    """No file of the product or of its tests breaks this rule."""
    found = [line for module in modules(*PACKAGES, "tests") if rule.applies(module) for line in rule.find(module)]
    assert not found, "\n".join([f"{rule.name}: {rule.why}.", *found])


def test_the_rule_sees_its_bad_example(rule: Rule) -> None:
    """The rule reports what it forbids and is silent about what it allows, so it cannot rot into a rule that sees nothing."""
    bad = snippet(rule.bad, rule.bad_path)
    assert rule.applies(bad)
    assert list(rule.find(bad))
    assert not list(rule.find(snippet(rule.good, rule.good_path)))


def test_the_rule_applies_to_something(rule: Rule) -> None:
    """A rule whose `applies` matches no file at all would be decoration."""
    assert any(rule.applies(module) for module in modules(*PACKAGES, "tests"))
