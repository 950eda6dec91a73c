"""Webhook endpoints: the one from the environment, and those that the API makes."""

from .errors import ApiError, ParametersInvalid, resource_missing
from .lists import LIST, listed
from .parameters import Boolean, Listing, Metadata, Params, Reader, Text, merged_metadata
from .settings import API_VERSION, Settings
from .state import Document, State, private
from .turn import Turn

_SETTABLE: dict[str, Reader] = {
    "description": Text(clearable=True),
    "enabled_events": Listing(),
    "expand": Listing(),
    "metadata": Metadata(),
    "url": Text(),
}
CREATE_FIELDS = _SETTABLE | {"api_version": Text()}
UPDATE_FIELDS = _SETTABLE | {"disabled": Boolean()}
LIST_FIELDS = {name: reader for name, reader in LIST.items() if name != "created"}
FROM_ENVIRONMENT = "we_HoldfastSandboxEnvironment"
_COUNT_MAX = 16


def ensure_from_environment(state: State, settings: Settings, now: int) -> None:
    """Make the endpoint of `SANDBOX_WEBHOOK_URL`, or move it where the variable points today."""
    known = state.find("webhook_endpoint", FROM_ENVIRONMENT)
    if known is None:
        if not settings.webhook_url:
            return
        known = state.insert(_blank(FROM_ENVIRONMENT, settings.webhook_url, ["*"], settings.webhook_secret, now))
    known["status"] = "enabled" if settings.webhook_url else "disabled"
    known["url"] = settings.webhook_url or known["url"]
    private(known)["secret"] = settings.webhook_secret or private(known)["secret"]
    state.save(known)


def create(turn: Turn) -> Document:
    """POST /v1/webhook_endpoints; only this answer shows the signing secret."""
    _check_url(turn.params)
    if len(turn.state.all_of("webhook_endpoint")) >= _COUNT_MAX:
        raise ApiError(f"You have reached the maximum of {_COUNT_MAX} test webhook endpoints.", code="url_invalid")
    secret = turn.new_id("whsec").replace("whsec_", "whsec_sandbox", 1)
    endpoint = _blank(turn.new_id("we"), turn.params["url"], turn.params["enabled_events"], secret, turn.now)
    endpoint["api_version"] = turn.params.get("api_version")
    _set(endpoint, turn.params)
    return turn.state.insert(endpoint) | {"secret": secret}


def retrieve(turn: Turn) -> Document:
    """GET /v1/webhook_endpoints/{id}."""
    found = turn.state.find("webhook_endpoint", turn.target)
    if found is None:
        raise resource_missing("webhook_endpoint", turn.target, "webhook_endpoint")
    return found


def list_all(turn: Turn) -> Document:
    """GET /v1/webhook_endpoints."""
    return listed(turn, "webhook_endpoint", "/v1/webhook_endpoints")


def update(turn: Turn) -> Document:
    """POST /v1/webhook_endpoints/{id}."""
    endpoint = retrieve(turn)
    _check_url(turn.params)
    _set(endpoint, turn.params)
    turn.state.save(endpoint)
    return endpoint


def delete(turn: Turn) -> Document:
    """DELETE /v1/webhook_endpoints/{id}."""
    retrieve(turn)
    turn.state.delete(turn.target)
    return {"id": turn.target, "object": "webhook_endpoint", "deleted": True}


def _check_url(params: Params) -> None:
    if not params.get("url", "http://").startswith(("http://", "https://")):
        raise ParametersInvalid(
            "Invalid URL: An explicit scheme (such as https) must be provided.", code="url_invalid", param="url"
        )
    if params.get("enabled_events") == []:
        raise ParametersInvalid("Invalid array: enabled_events must not be empty", param="enabled_events")


def _set(endpoint: Document, params: Params) -> None:
    for name in ("url", "enabled_events", "description"):
        if name in params:
            endpoint[name] = params[name]
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    if "metadata" in params:
        endpoint["metadata"] = merged_metadata(endpoint["metadata"], params["metadata"])


def _blank(endpoint_id: str, url: str, enabled_events: list[str], secret: str, now: int) -> Document:
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": now,
        "description": None,
        "enabled_events": enabled_events,
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
        "_sandbox": {"secret": secret},
    }
