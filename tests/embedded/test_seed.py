"""The demo catalogue: filled once, topped up later, right in each place's own time and money."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from deploy.embedded.money import spoken
from deploy.embedded.seed import OFFERS, Seeded, departures, seed


class _Catalogue:
    """The admin and catalogue endpoints as far as seeding uses them, pages of two to prove that lists are walked."""

    def __init__(self) -> None:
        self.experiences: list[dict[str, str]] = []
        self.slots: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        if request.method == "POST":
            assert request.headers["authorization"] == "Bearer operator"
            rows = self.experiences if request.url.path.endswith("experiences") else self.slots
            rows.append({**json.loads(request.content), "id": f"id-{len(rows)}"})
            return httpx.Response(201, json=rows[-1])
        rows = self.experiences
        if request.url.path == "/v1/time-slots":
            rows = [slot for slot in self.slots if slot["experience_id"] == query["experience_id"]]
        begin = int(query.get("starting_after", "0"))
        page, more = rows[begin : begin + 2], len(rows) > begin + 2
        return httpx.Response(200, json={"data": page, "has_more": more, "next_cursor": str(begin + 2)})


def _seed(catalogue: _Catalogue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Seeded:
    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: client(**options, transport=httpx.MockTransport(catalogue)))
    try:
        return seed("http://reservation", "operator", now=now)
    finally:
        monkeypatch.setattr(httpx, "Client", client)


def test_seeding_again_adds_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same day adds nothing, the next day adds one day."""
    catalogue, now = _Catalogue(), datetime(2026, 11, 23, 12, tzinfo=UTC)
    per_day = sum(len(offer.departures) for offer in OFFERS)
    assert _seed(catalogue, now, monkeypatch) == Seeded(len(OFFERS), 3 * per_day)
    assert _seed(catalogue, now, monkeypatch) == Seeded(0, 0)
    assert _seed(catalogue, now.replace(day=24), monkeypatch) == Seeded(0, per_day)


def test_every_slot_lies_ahead_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a day in UTC, when it is tomorrow already in Tokyo, no slot has begun."""
    catalogue, now = _Catalogue(), datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    _seed(catalogue, now, monkeypatch)
    assert all(datetime.fromisoformat(slot["starts_at"]) > now for slot in catalogue.slots)


def test_departures_follow_the_place_s_clock() -> None:
    """Lisbon's 17:00 is another instant in summer than in winter."""
    lamp = next(offer for offer in OFFERS if offer.time_zone == "Europe/Lisbon")
    assert departures(lamp, datetime(2026, 7, 1, tzinfo=UTC))[0].hour == 16
    assert departures(lamp, datetime(2026, 12, 1, tzinfo=UTC))[0].hour == 17


def test_the_demo_shows_three_kinds_of_money() -> None:
    """Currencies with two, no and three decimals are all in the catalogue, and are read aloud rightly."""
    assert {offer.currency for offer in OFFERS} == {"EUR", "JPY", "KWD"}
    assert [spoken(4500, code) for code in ("eur", "JPY", "KWD")] == ["EUR 45.00", "JPY 4500", "KWD 4.500"]
