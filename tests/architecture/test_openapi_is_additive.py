"""The public contract only grows: whoever built a client yesterday can use it tomorrow."""

import copy
import json
from typing import Any

import pytest
from openapi_spec_validator import validate

import payment_service.app
import reservation_service.app
from tests.architecture.openapi_growth import losses
from tests.architecture.source import ROOT

DOCUMENTS = {
    "reservation": reservation_service.app.openapi_document,
    "payment": payment_service.app.openapi_document,
}
_OLD: dict[str, Any] = {
    "paths": {
        "/v1/things": {
            "post": {
                "operationId": "create_thing",
                "parameters": [{"in": "header", "name": "Key", "schema": {"type": "string"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
                "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/T"}}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "New": {
                "type": "object",
                "properties": {"n": {"type": "integer", "maximum": 9}, "mode": {"enum": ["a", "b"]}},
                "required": ["n"],
            },
            "T": {
                "type": "object",
                "properties": {"id": {"type": "string"}, "next": {"$ref": "#/components/schemas/T"}},
                "required": ["id"],
            },
        }
    },
}


def committed(service: str) -> dict[str, Any]:
    """Return the contract of a service as it was last agreed on."""
    document: dict[str, Any] = json.loads((ROOT / "docs/reference/openapi" / f"{service}.json").read_text())
    return document


@pytest.mark.parametrize("service", DOCUMENTS)
def test_nothing_is_taken_from_clients(service: str) -> None:
    """Every path, field, type and promise of the committed contract is still there."""
    assert not losses(committed(service), DOCUMENTS[service]())


@pytest.mark.parametrize("service", DOCUMENTS)
def test_additions_are_committed(service: str) -> None:
    """The committed contract is the one that the code serves; `make openapi` writes it."""
    assert committed(service) == DOCUMENTS[service]()


@pytest.mark.parametrize("service", DOCUMENTS)
def test_the_contract_is_valid_openapi(service: str) -> None:
    """Generators of clients can read the document, and every operation has a name given by hand."""
    document = DOCUMENTS[service]()
    validate(document)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and "__" not in name and not name.endswith("_v1") for name in names), names


def test_a_document_loses_nothing_to_itself_or_to_a_richer_one() -> None:
    """New paths, optional fields, answers and wider limits are additions; a schema that names itself ends."""
    new = copy.deepcopy(_OLD)
    new["paths"]["/v1/others"] = {"get": {}}
    schemas = new["components"]["schemas"]
    schemas["New"]["properties"] |= {"extra": {"type": "string"}, "n": {"type": "integer", "maximum": 10}}
    schemas["T"]["properties"]["extra"] = {"type": "string"}
    schemas["T"]["required"].append("extra")
    assert not losses(_OLD, copy.deepcopy(_OLD))
    assert not losses(_OLD, new)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d["paths"].pop("/v1/things"),
        lambda d: d["paths"]["/v1/things"]["post"].update(operationId="other"),
        lambda d: d["paths"]["/v1/things"]["post"]["parameters"].clear(),
        lambda d: d["paths"]["/v1/things"]["post"]["parameters"][0].update(required=True),
        lambda d: d["paths"]["/v1/things"]["post"]["responses"].pop("200"),
        lambda d: d["paths"]["/v1/things"]["post"].pop("requestBody"),
        lambda d: d["components"]["schemas"]["New"]["properties"].pop("mode"),
        lambda d: d["components"]["schemas"]["New"]["properties"]["mode"]["enum"].remove("b"),
        lambda d: d["components"]["schemas"]["New"]["properties"]["n"].update(maximum=8),
        lambda d: d["components"]["schemas"]["New"]["properties"]["n"].update(minimum=1),
        lambda d: d["components"]["schemas"]["New"]["required"].append("mode"),
        lambda d: d["components"]["schemas"]["T"]["properties"].pop("next"),
        lambda d: d["components"]["schemas"]["T"]["properties"]["id"].update(type="integer"),
        lambda d: d["components"]["schemas"]["T"]["required"].clear(),
    ],
)
def test_every_kind_of_loss_is_seen(break_it: Any) -> None:
    """Each way to break a client is reported: gone, renamed, narrowed, newly required, no longer promised."""
    new = copy.deepcopy(_OLD)
    break_it(new)
    assert losses(_OLD, new)
