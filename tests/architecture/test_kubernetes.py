"""The manifests for Kubernetes say what the code says, are well formed, and let nothing do more than it needs."""

import tomllib
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.prometheus_rule import FILE, render, sources
from payment_service.api import stripe_webhook
from payment_service.settings import PaymentSettings
from reservation_service.settings import ReservationSettings
from tests.architecture.manifests import (
    BASE,
    EXAMPLES,
    FOLDER,
    KUSTOMIZATION,
    MONITORS,
    Document,
    changed,
    config_of,
    named,
    pod_of,
    read,
    secrets_of,
    template,
    wrong_with,
)
from tests.architecture.source import ROOT
from tests.architecture.test_containers import COMPOSE, DOCKERFILE
from tests.security_audit import secrets_in

_SETTINGS = {"payment": PaymentSettings, "reservation": ReservationSettings}
_PODS = (*_SETTINGS, "migrate")
_MAX_CONNECTIONS = 100  # PostgreSQL's default
_FOR_OTHERS = 20  # backups, people, the three that are the superuser's
_WRITABLE = "/tmp"  # noqa: S108  in the container, where nobody else is
_INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")


def _settings(name: str) -> Any:
    """Return the settings as the service would read them, with something for each secret."""
    given = {
        **dict.fromkeys(secrets_of(pod_of(name)), "k1:something-secret-and-long-enough-to-be-one"),
        **config_of(name),
    }
    return _SETTINGS[name](**{variable.lower(): value for variable, value in given.items()})


@pytest.mark.parametrize(
    "document", [*BASE, *MONITORS, *EXAMPLES], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_a_manifest_is_well_formed(document: Document) -> None:
    """It has the keys that its kind has, and values of their types; a slip in any of them would be seen."""
    assert wrong_with(document) == []
    assert wrong_with({**document, "speck": {}})
    assert wrong_with({**document, "apiVersion": "v0"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.template.spec.containers.0.readinesProbe", {}),
        ("spec.template.spec.containers.0.env.0.value", "x"),
        ("spec.template.spec.containers.0.ports.0.containerPort", "8000"),
        ("spec.template.spec.securityContext.runAsUser", "10001"),
        ("spec.template.spec.containers.0.resources.limits.memory", "512MB"),
        ("spec.selector", None),
    ],
)
def test_a_slip_in_a_manifest_is_seen(path: str, value: Any) -> None:
    """A misspelt key, a secret in plain sight, text for a number, a unit that there is not, and what is missing."""
    assert wrong_with(changed(named("Deployment")["reservation"], path, value))


def test_a_number_is_no_text_in_a_config_map() -> None:
    """Kubernetes refuses it, and YAML makes one of every 8 without quotes."""
    assert wrong_with(changed(named("ConfigMap")["holdfast-shared"], "data.DATABASE_POOL_SIZE", 8))


@pytest.mark.parametrize("folder", ["base", "prometheus"])
def test_a_kustomization_lists_every_file(folder: str) -> None:
    """A file that it leaves out would never reach a cluster, and the example of the secrets never may."""
    listed = read(f"{folder}/kustomization.yaml")[0]["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in (FOLDER / folder).iterdir())


def test_images_are_those_of_this_release() -> None:
    """Every image is one that the image file makes, with the version of the project and of the composition."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    used = {container["image"] for name in _PODS for container in pod_of(name)["containers"]}
    assert {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]} == dict.fromkeys(used, version)
    for image in used:
        part = image.removeprefix("holdfast-")
        assert COMPOSE["services"][part]["image"] == f"{image}:{version}"
        assert f"FROM base AS {part}\n" in DOCKERFILE


@pytest.mark.parametrize("name", _SETTINGS)
def test_the_parts_of_a_service_belong_together(name: str) -> None:
    """Whatever selects pods selects these, and every port is the one on which the service listens."""
    labels = template(name)["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": name}
    assert named("Deployment")[name]["spec"]["selector"]["matchLabels"] == labels
    assert named("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels
    assert all(rule["labelSelector"]["matchLabels"] == labels for rule in pod_of(name)["topologySpreadConstraints"])
    service, port = named("Service")[name], getattr(_settings(name), f"{name}_port")
    assert service["spec"] == {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}
    assert service["metadata"]["labels"] == labels
    assert pod_of(name)["containers"][0]["ports"] == [{"name": "http", "containerPort": port}]
    assert named("HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]["name"] == name
    assert config_of("reservation")["PAYMENT_SERVICE_URL"] == "http://payment:8001"
    assert config_of("payment")["RESERVATION_SERVICE_URL"] == "http://reservation:8000"


def too_much(pod: Document, account: Document) -> Iterator[str]:
    """Find what a pod may do without needing it."""
    careful = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if pod["securityContext"] != careful:
        yield "who it runs as"
    if pod["automountServiceAccountToken"] or account["automountServiceAccountToken"]:
        yield "has a token for the cluster"
    if pod["enableServiceLinks"]:
        yield "is told of Services in variables that are settings of ours"
    if pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}:
        yield "is in the node's own rooms"
    mounts = [mount for container in pod["containers"] for mount in container["volumeMounts"]]
    volumes = [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}]
    if mounts != [{"name": "tmp", "mountPath": _WRITABLE}] or pod["volumes"] != volumes:
        yield "has another place to write to"
    for container in pod["containers"]:
        little = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        if container["securityContext"] != little:
            yield f"{container['name']} may do more than it needs"


_SLIPS = {
    "securityContext.runAsNonRoot": False,
    "securityContext.seccompProfile": None,
    "automountServiceAccountToken": True,
    "enableServiceLinks": True,
    "hostNetwork": True,
    "volumes.0.emptyDir": {},
    "containers.0.securityContext.readOnlyRootFilesystem": False,
    "containers.0.securityContext.capabilities.drop": ["NET_RAW"],
}


@pytest.mark.parametrize("name", _PODS)
def test_a_pod_may_do_little(name: str) -> None:
    """It is nobody in particular, writes nowhere but to /tmp, has no capability and no token; a slip is seen."""
    account = named("ServiceAccount")[pod_of(name)["serviceAccountName"]]
    assert list(too_much(pod_of(name), account)) == []
    for path, value in _SLIPS.items():
        assert list(too_much(changed(pod_of(name), path, value), account)), path
    assert list(too_much(pod_of(name), {"automountServiceAccountToken": True}))
    assert pod_of(name)["shareProcessNamespace"], "as number 1 of its pod it would not hear SIGTERM before it serves"


def bad_timing(deployment: Document, settings: Any) -> Iterator[str]:
    """Find waits that end before what they wait for."""
    pod = deployment["spec"]["template"]["spec"]
    start, ready, live = (pod["containers"][0][f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    if [probe["httpGet"] for probe in (start, ready, live)] != [
        {"path": path, "port": "http"} for path in ("/startupz", "/readyz", "/livez")
    ]:
        yield "a probe asks for something else"
    if any(probe["timeoutSeconds"] > probe["periodSeconds"] for probe in (start, ready, live)):
        yield "a probe is not answered before the next one"
    start_s = start["periodSeconds"] * start["failureThreshold"]
    if not 60 <= settings.start_patience_s < start_s - 10 < deployment["spec"]["progressDeadlineSeconds"]:
        yield "a pod that waits for the migration is killed, or its deployment called a failure"
    if ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] >= settings.shutdown_notice_s:
        yield "a pod leaves before anybody notices"
    if live["periodSeconds"] * live["failureThreshold"] < 30 or ready["timeoutSeconds"] < 2:
        yield "a pod that is only busy is given up"
    # Answers in flight have one grace; after them background work and sagas have half of it each.
    if settings.shutdown_notice_s + 2 * settings.shutdown_grace_s + 5 > pod["terminationGracePeriodSeconds"]:
        yield "a pod is killed while it hands over"
    if deployment["spec"]["strategy"]["rollingUpdate"] != {"maxUnavailable": 0, "maxSurge": 1}:
        yield "a release has fewer pods than before"


@pytest.mark.parametrize("name", _SETTINGS)
def test_every_wait_is_long_enough(name: str) -> None:
    """Start, drain and release leave each other the time they need, with the numbers of the settings; a slip is seen."""
    deployment, settings = named("Deployment")[name], _settings(name)
    assert list(bad_timing(deployment, settings)) == []
    container = "spec.template.spec.containers.0"
    for path, value in {
        f"{container}.startupProbe.failureThreshold": 150,
        f"{container}.readinessProbe.periodSeconds": 5,
        f"{container}.livenessProbe.httpGet.path": "/readyz",
        f"{container}.livenessProbe.failureThreshold": 1,
        "spec.template.spec.terminationGracePeriodSeconds": 30,
        "spec.strategy.rollingUpdate.maxUnavailable": 1,
    }.items():
        assert list(bad_timing(changed(deployment, path, value), settings)), path
    hasty = settings.model_copy(update={"shutdown_notice_s": 5.0})
    assert list(bad_timing(deployment, hasty)) == ["a pod leaves before anybody notices"]


def _connections(pods_max: int, pool: int) -> int:
    """While a release rolls, old pods leave beside the new ones; one connection more is the migration's."""
    return 2 * pods_max * pool + 1


@pytest.mark.parametrize("name", _SETTINGS)
def test_all_pods_find_a_connection(name: str) -> None:
    """At most so many pods that PostgreSQL's usual hundred connections are enough; at least two, and one may go at a time."""
    scaling = named("HorizontalPodAutoscaler")[name]["spec"]
    assert scaling["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert "replicas" not in named("Deployment")[name]["spec"], "applying it would undo what the autoscaler has done"
    assert 2 == scaling["minReplicas"] < scaling["maxReplicas"]
    assert named("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
    pool = _settings(name).database_pool_size
    assert _connections(scaling["maxReplicas"], pool) <= _MAX_CONNECTIONS - _FOR_OTHERS
    assert _connections(scaling["maxReplicas"], 2 * pool) > _MAX_CONNECTIONS


def unsuitable_variables(pod: Document, config: dict[str, str], name: str) -> Iterator[str]:
    """Find what a service is told without asking, what it asks for in vain, and what is told too openly."""
    fields, secret = _SETTINGS[name].model_fields, secrets_of(pod)
    known = {field.upper() for field in fields}
    either = {"PAYMENT_SERVICE_URL", "RESERVATION_SERVICE_URL"}  # both get both
    yield from (f"{one} is no setting" for one in (secret.keys() | config.keys()) - known - either)
    certain = {one for one, key in secret.items() if not key.get("optional")} | config.keys()
    yield from (
        f"{field.upper()} is missing"
        for field, one in fields.items()
        if one.is_required() and field.upper() not in certain
    )
    hidden = {field.upper() for field, one in fields.items() if "Secret" in str(one.annotation)} | {"REDIS_URL"}
    yield from (f"{one} is a secret" for one in config if one in hidden)
    yield from (f"{one} is not of its own name" for one, key in secret.items() if key["key"] != one)
    own = {"holdfast-shared", f"holdfast-{name}"}
    yield from (f"{one} is the other service's" for one, key in secret.items() if key["name"] not in own)


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_pod_is_told_what_its_service_asks_for(name: str) -> None:
    """Every variable is a setting of that service with a value it takes, and none that it requires is missing; slips are seen."""
    pod, config = pod_of(name), config_of(name)
    assert list(unsuitable_variables(pod, config, name)) == []
    assert _settings(name).shutdown_notice_s > 0
    assert list(unsuitable_variables(pod, {**config, "DATABASE_POOLSIZE": "8"}, name)) == [
        "DATABASE_POOLSIZE is no setting"
    ]
    assert list(unsuitable_variables(pod, {**config, "AUTH_JWT_SECRET": "x"}, name)) == ["AUTH_JWT_SECRET is a secret"]
    for slip in (
        changed(pod, "containers.0.env.0"),
        changed(pod, "containers.0.env.0.valueFrom.secretKeyRef.optional", value=True),
        changed(pod, "containers.0.env.0.valueFrom.secretKeyRef.key", "OTHER"),
        changed(pod, "containers.0.env.0.valueFrom.secretKeyRef.name", "holdfast-other"),
    ):
        assert list(unsuitable_variables(slip, config, name))


def test_the_migration_knows_both_databases_and_nothing_else() -> None:
    """By the Secrets of the services, so that there is one place for each address."""
    asked = {one: (key["name"], key["key"]) for one, key in secrets_of(pod_of("migrate")).items()}
    databases = {name: f"{name.upper()}_DATABASE_URL" for name in _SETTINGS}
    assert asked == {variable: (f"holdfast-{name}", variable) for name, variable in databases.items()}


def test_no_manifest_holds_a_secret() -> None:
    """Secrets are asked for by name; the example names each of them, has no value, and is part of nothing."""
    assert not named("Secret")
    assert not list(secrets_in((path, path.read_text()) for path in FOLDER.rglob("*.yaml")))
    shown = {(one["metadata"]["name"], key) for one in EXAMPLES for key in one["stringData"]}
    asked = [key for name in _PODS for key in secrets_of(pod_of(name)).values()]
    needed = {(key["name"], key["key"]) for key in asked if not key.get("optional")}
    assert shown == needed | {("holdfast-shared", "AUTH_JWT_SECRET")}
    assert {value for one in EXAMPLES for value in one["stringData"].values()} == {""}


def _selects(selector: Document, labels: dict[str, str]) -> bool:
    exactly = selector.get("matchLabels", {}).items() <= labels.items()
    return exactly and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def _rules(policies: list[Document], name: str, way: str) -> Iterator[Document]:
    """Yield the rules of one way (ingress, egress) that hold for a pod, as kustomize labels it."""
    added = [one["pairs"] for one in KUSTOMIZATION["labels"] if one.get("includeTemplates")]
    labels = {key: value for pairs in [*added, template(name)["metadata"]["labels"]] for key, value in pairs.items()}
    for policy in policies:
        if _selects(policy["spec"]["podSelector"], labels):
            yield from policy["spec"].get(way, ())


def _is_inside(peer: Document) -> bool:
    if "ipBlock" not in peer:
        return True
    network = ip_network(peer["ipBlock"]["cidr"])
    return any(network.version == one.version and network.subnet_of(one) for one in map(ip_network, _INSIDE))  # type: ignore[arg-type]


def ways_out(policies: list[Document], name: str) -> set[tuple[int, bool]]:
    """Return the ports that a pod may call, and of each whether it may on the internet; without a peer it may everywhere."""
    return {
        (port["port"], not all(map(_is_inside, rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}]))))
        for rule in _rules(policies, name, "egress")
        for port in rule["ports"]
    }


def callers(policies: list[Document], name: str) -> set[tuple[str, int]]:
    """Return who may call a pod (a namespace, or pods of ours), and at which port."""
    return {
        (next(iter((peer.get("namespaceSelector") or peer["podSelector"])["matchLabels"].values())), port["port"])
        for rule in _rules(policies, name, "ingress")
        for peer in rule["from"]
        for port in rule["ports"]
    }


def test_a_pod_speaks_with_whom_it_must() -> None:
    """Nobody by default; the services with each other and their stores; only payment_service with the internet, and on 443."""
    policies = [*named("NetworkPolicy").values()]
    everyone = [one["spec"] for one in policies if one["spec"]["podSelector"] == {}]
    assert everyone == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    stores = {(53, False), (5432, False), (6379, False)}
    assert ways_out(policies, "reservation") == {*stores, (8001, False)}
    assert ways_out(policies, "payment") == {*stores, (8000, False), (443, True)}
    assert ways_out(policies, "migrate") == {(53, False), (5432, False)}
    assert callers(policies, "reservation") == {(one, 8000) for one in ("ingress-nginx", "payment", "monitoring")}
    assert callers(policies, "payment") == {(one, 8001) for one in ("ingress-nginx", "reservation", "monitoring")}
    assert callers(policies, "migrate") == set()


def test_the_internet_is_not_the_neighbourhood() -> None:
    """What payment_service may call on 443 leaves out every private network, and the cloud's metadata."""
    outside = [peer["ipBlock"] for peer in named("NetworkPolicy")["payment"]["spec"]["egress"][1]["to"]]
    assert {block["cidr"] for block in outside} == {"0.0.0.0/0", "::/0"}
    assert {one for block in outside for one in block["except"]} >= set(_INSIDE)


def test_an_open_door_is_noticed() -> None:
    """A port that is open to everywhere, a public address, and a policy that no pod is under any more."""
    redis, databases = named("NetworkPolicy")["redis"], named("NetworkPolicy")["databases"]
    assert ways_out([changed(redis, "spec.egress.0.to")], "reservation") == {(6379, True)}
    assert ways_out([changed(databases, "spec.egress.0.to.1.ipBlock.cidr", "8.0.0.0/8")], "migrate") == {(5432, True)}
    assert ways_out([changed(databases, "spec.podSelector.matchLabels", {"app": "x"})], "migrate") == set()


def test_little_can_be_reached_from_outside() -> None:
    """/v1 of reservation_service, and of payment_service exactly the path to which Stripe sends; both with TLS."""
    reached = {}
    for name, ingress in named("Ingress").items():
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"] == {"service": {"name": name, "port": {"name": "http"}}}
        assert [rule["host"]] == ingress["spec"]["tls"][0]["hosts"]
        reached[name] = (path["path"], path["pathType"])
    assert reached == {"reservation": ("/v1", "Prefix"), "payment": (stripe_webhook.PATH, "Exact")}


def test_jobs_have_the_names_that_rules_and_dashboards_know() -> None:
    """The operator would call them after the Services; and they read what there is to read."""
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    jobs_of = {}
    for monitor in MONITORS:
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (
            named("Service")[monitor["metadata"]["name"]]["metadata"]["labels"]
            == monitor["spec"]["selector"]["matchLabels"]
        )
        assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
        jobs_of[monitor["metadata"]["name"]] = endpoint["relabelings"][0]["replacement"]
        assert endpoint["relabelings"][0]["targetLabel"] == "job"
    assert jobs_of == {name: f"{name}_service" for name in _SETTINGS}
    assert sorted(jobs_of.values()) == sorted(job["job_name"] for job in jobs)


def test_the_operators_rules_are_the_rules(tmp_path: Path) -> None:
    """The committed file is what its module makes of them, in whole, and another rule would make another file."""
    assert FILE.read_text() == render(sources())
    made = yaml.safe_load(FILE.read_text())
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    groups = [group for file in sources() for group in yaml.safe_load(file.read_text())["groups"]]
    assert made["spec"] == {"groups": groups}
    other = tmp_path / "other.yml"
    other.write_text("groups: [{name: other, rules: []}]\n")
    assert render([*sources(), other]) != render(sources())
