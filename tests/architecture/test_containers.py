"""The image file and the composition say what the code says, and give no container more than it needs."""

import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from payment_service.settings import PaymentSettings
from reservation_service.settings import ReservationSettings
from tests.architecture.source import ROOT
from tests.security_audit import unsafe_image

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
_SETTINGS = {"payment": PaymentSettings, "reservation": ReservationSettings}


def wrong_with(compose: Any) -> list[str]:
    """Return what the Compose Specification does not allow; its schema is committed beside this test."""
    schema = json.loads((ROOT / "tests/architecture/compose-spec.json").read_text())
    return [f"{list(error.absolute_path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(compose)]


def test_the_composition_is_well_formed() -> None:
    """By the schema of the Compose Specification; a slip in it is seen."""
    assert wrong_with(COMPOSE) == []
    assert wrong_with({**COMPOSE, "services": {"x": {"imagine": "postgres:18"}}})


def test_the_image_file_is_careful() -> None:
    """Nobody in particular, fixed bases, locked packages, no secret; one image for each part that is built."""
    assert list(unsafe_image(DOCKERFILE)) == []
    targets = set(re.findall(r"^FROM base AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in OURS.values()} == targets


@pytest.mark.parametrize("name", OURS)
def test_a_container_may_do_little(name: str) -> None:
    """It writes nowhere but to /tmp, has no capability and gets none, and is reached from this machine only."""
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "volumes" not in service


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_container_is_given_the_time_to_end(name: str) -> None:
    """Longer than its notice, its answers and its background work may take together."""
    grace_s = _SETTINGS[name].model_fields["shutdown_grace_s"].default
    notice_s = float(OURS[name]["environment"]["SHUTDOWN_NOTICE_S"])
    assert float(OURS[name]["stop_grace_period"].removesuffix("s")) > notice_s + 2 * grace_s


def test_watching_is_asked_for() -> None:
    """Prometheus and Grafana come with their profile only, may do as little as ours, and read what our services serve."""
    watching = {name: service for name, service in COMPOSE["services"].items() if service.get("profiles") == ["watch"]}
    assert watching.keys() == {"prometheus", "grafana"}
    for service in watching.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert all(volume.endswith(":ro") for volume in service["volumes"])
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    for job in jobs:
        host, _, port = job["static_configs"][0]["targets"][0].partition(":")
        assert job["job_name"] == f"{host}_service"
        assert OURS[host]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_composition_holds_no_secret(name: str) -> None:
    """Whatever is secret comes from the environment, and has no default."""
    for variable, value in COMPOSE["services"][name].get("environment", {}).items():
        if re.search(r"SECRET|PASSWORD|KEY|DATABASE_URL", variable):
            assert re.search(r"\$\{[A-Z_]+(:\?[^}]*|:-)\}", value), f"{name} {variable}"


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_container_is_told_what_its_service_asks_for(name: str) -> None:
    """Every variable is a setting of that service, and none that it requires is missing."""
    told = set(OURS[name]["environment"])
    fields = _SETTINGS[name].model_fields
    known = {field.upper() for field in fields}
    either = {"PAYMENT_SERVICE_URL", "RESERVATION_SERVICE_URL"}  # both get both
    assert told - known - either == set()
    assert {field.upper() for field, described in fields.items() if described.is_required()} <= told
