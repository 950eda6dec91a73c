"""Which web pages may call the API: those on the list, with what they need, and no other; the reference page runs only itself."""

import base64
import hashlib
import re

import pytest
from pydantic import ValidationError

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, open_box_office, settings_for

SHOP, STRANGER = "https://shop.example", "https://evil.example"
_ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}


async def test_only_listed_pages_may_call(module_database_url: str) -> None:
    """X16: the shop's page may hold and read the headers it needs; a stranger's gets no permission; nobody's cookies count."""
    async with open_box_office(module_database_url, cors_allowed_origins=(SHOP,)) as office:
        allowed = await office.http.options("/v1/holds", headers={"Origin": SHOP, **_ASKS})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
        assert "access-control-allow-credentials" not in allowed.headers
        denied = await office.http.options("/v1/holds", headers={"Origin": STRANGER, **_ASKS})
        assert "access-control-allow-origin" not in denied.headers
        read = await office.http.get("/v1/experiences", headers={"Origin": SHOP})
        assert "Expires-In-Ms" in read.headers["access-control-expose-headers"]
        refusal = await office.http.post("/v1/holds", headers={"Origin": SHOP}, json={})
        refused(refusal, 401, "UNAUTHENTICATED")
        assert refusal.headers["access-control-allow-origin"] == SHOP, "a page must be able to read its refusal"
        foreign = await office.http.get("/v1/experiences", headers={"Origin": STRANGER})
        assert "access-control-allow-origin" not in foreign.headers


async def test_nobody_is_listed_by_default(office: BoxOffice) -> None:
    """X16: without a list no page may call."""
    answer = await office.http.get("/v1/experiences", headers={"Origin": SHOP})
    answered(answer)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["*", "null", "https://*.example", "shop.example", "https://shop.example/", ""])
def test_a_list_names_origins(origin: str) -> None:
    """Everybody, nobody in particular, or a page instead of an origin: the service does not start."""
    if origin:
        with pytest.raises(ValidationError):
            settings_for("postgresql+asyncpg://x/x", cors_allowed_origins=(origin,))
    else:
        assert settings_for("postgresql+asyncpg://x/x", cors_allowed_origins="").cors_allowed_origins == ()


async def test_the_reference_page_runs_only_its_own_script(office: BoxOffice) -> None:
    """X16: its policy names the digest of the one script that stands in it, and no other source."""
    page = await office.http.get("/docs")
    policy = page.headers["content-security-policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "http" not in policy
