"""When two requests are the same one: how a key is written, and what its request is recognised by."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.idempotency import fingerprint, parse_key
from shared.problems import IdempotencyKeyInvalid, IdempotencyKeyMissing

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
BODIES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@pytest.mark.parametrize(
    ("written", "key"),
    [("a", "a"), ('"a"', "a"), ("x" * 255, "x" * 255), ('"' + "x" * 255 + '"', "x" * 255), ('a"b', 'a"b'), ('"', '"')],
)
def test_a_key_is_bare_or_quoted(written: str, key: str) -> None:
    """Both spellings of the draft's structured string mean the same key."""
    assert parse_key([written]) == key


@pytest.mark.parametrize(
    "values", [[""], ['""'], [" "], ["a b"], ["x" * 256], ["\xe9"], ["a\n"], ["a\x00"], ["a", "a"], ["a", "b"]]
)
def test_anything_else_is_no_key(values: list[str]) -> None:
    """V10: empty, blank, too long, not visible ASCII, or two header lines."""
    with pytest.raises(IdempotencyKeyInvalid):
        parse_key(values)


def test_a_key_may_not_be_left_out() -> None:
    """V10: no header at all is another refusal."""
    with pytest.raises(IdempotencyKeyMissing):
        parse_key([])


@given(VISIBLE)
def test_every_visible_key_is_one(key: str) -> None:
    """Each such text is a key, and quoting it changes nothing."""
    parsed = parse_key([key])
    assert key in {parsed, f'"{parsed}"'}
    assert parse_key([f'"{key}"']) == key


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    """V10: whatever is sent, it is a key of printable ASCII or a refusal."""
    try:
        key = parse_key([text])
    except IdempotencyKeyInvalid:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


@given(BODIES)
def test_spacing_and_order_do_not_matter(body: Any) -> None:
    """V12: the same JSON written differently is the same request."""
    shuffled = json.loads(json.dumps(body, sort_keys=True), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert fingerprint("POST", "/v1/x", body) == fingerprint("POST", "/v1/x", shuffled)


@given(BODIES, BODIES)
def test_another_body_is_another_request(one: Any, other: Any) -> None:
    """V07: bodies that differ as JSON have different fingerprints."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if not same and json.loads(json.dumps(one)) != json.loads(json.dumps(other)):
        assert fingerprint("POST", "/v1/x", one) != fingerprint("POST", "/v1/x", other)


def test_method_and_path_are_part_of_it() -> None:
    """V09: the same body elsewhere is another request, also where the parts could run into each other."""
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/a", {}),
        ("PUT", "/a", {}),
        ("POST", "/b", {}),
        ("POST", "/a", []),
        ("POST", "/a", None),
        ("POST", "/a/1", {"x": 1}),
        ("POST", "/a", {"x": 1}),
    ]
    seen = {fingerprint(method, path, body) for method, path, body in requests}
    assert len(seen) == 7
    assert {len(each) for each in seen} == {16}
