"""Reading forms: brackets become objects and lists, and nothing that anybody can send gets any further than a refusal."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.stripe_sandbox.errors import ParametersInvalid
from deploy.stripe_sandbox.operations import OPERATIONS
from deploy.stripe_sandbox.parameters import Fields, decode

NAMES = sorted({name for operation in OPERATIONS for name in operation.fields})


@pytest.mark.parametrize(
    ("encoded", "tree"),
    [
        ("", {}),
        ("amount=5&currency=eur", {"amount": "5", "currency": "eur"}),
        ("metadata[a]=1&metadata[b]=", {"metadata": {"a": "1", "b": ""}}),
        ("types[]=x&types[]=y", {"types": ["x", "y"]}),
        ("types[0]=x&types[1]=y", {"types": ["x", "y"]}),
        ("a[b][c]=%C3%A9", {"a": {"b": {"c": "\u00e9"}}}),
        ("a=1&a=2", {"a": "2"}),
    ],
)
def test_brackets(encoded: str, tree: dict[str, Any]) -> None:
    """The SDK's notation, and curl's."""
    assert decode(encoded) == tree


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES) | st.text(max_size=8),
            st.lists(
                st.sampled_from(["", "0", "1", "type", "card", "number", "gte"]) | st.text(max_size=3), max_size=4
            ),
            st.sampled_from(["", "true", "5", "-1", "eur", "card", "1e400", "\x00"]) | st.text(max_size=12),
        ),
        max_size=8,
    )
)
def test_no_form_gets_further_than_a_refusal(pairs: list[tuple[str, list[str], str]]) -> None:
    """Whatever the names and values: each operation reads it, or refuses it as invalid parameters."""
    encoded = "&".join(name + "".join(f"[{step}]" for step in steps) + f"={value}" for name, steps, value in pairs)
    with suppress(ParametersInvalid):
        form = decode(encoded)
        for operation in OPERATIONS:
            with suppress(ParametersInvalid):
                Fields(operation.fields, operation.required).read("", form)
