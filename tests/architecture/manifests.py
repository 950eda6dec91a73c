"""Reads the manifests for Kubernetes, and knows what they may look like.

The shapes are written by hand: Kubernetes' own schemas are a hundred megabytes, of which ours need little.
"""

from copy import deepcopy
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.architecture.source import ROOT

FOLDER = ROOT / "deploy/kubernetes"

Document = dict[str, Any]


def read(place: str) -> list[Document]:
    """Return every document of a file or folder below deploy/kubernetes, in order."""
    files = sorted((FOLDER / place).glob("*.yaml")) if (FOLDER / place).is_dir() else [FOLDER / place]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


KUSTOMIZATION = read("base/kustomization.yaml")[0]
BASE = [document for document in read("base") if document["kind"] != "Kustomization"]
MONITORS, EXAMPLES = read("prometheus/service-monitors.yaml"), read("secrets.example.yaml")


def named(kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in BASE if document["kind"] == kind}


def template(name: str) -> Document:
    owner: Document = (named("Deployment") | named("Job"))[name]
    return owner["spec"]["template"]


def pod_of(name: str) -> Document:
    pod: Document = template(name)["spec"]
    return pod


def config_of(name: str) -> dict[str, str]:
    """Return what is no secret and reaches the container of a pod."""
    given = [source["configMapRef"]["name"] for source in pod_of(name)["containers"][0].get("envFrom", ())]
    return {key: value for config in given for key, value in named("ConfigMap")[config]["data"].items()}


def secrets_of(pod: Document) -> dict[str, Document]:
    """Return which key of which Secret each variable of a pod is."""
    return {one["name"]: one["valueFrom"]["secretKeyRef"] for one in pod["containers"][0]["env"]}


def changed(document: Document, path: str, value: Any = None) -> Document:
    """Return a copy with another value at `a.0.b`, or without that key: the slip by which a check proves that it can see."""
    copy = deepcopy(document)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = copy
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copy


# Shapes: JSON Schema, in which no key is allowed that is not named.
_TEXT, _COUNT, _FLAG = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_TEXTS: Document = {"type": "object", "additionalProperties": {"type": "string"}}
_AMOUNT = {"type": "string", "pattern": r"^\d+(m|Mi)?$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def _one_of(*values: str) -> Document:
    return {"enum": list(values)}


def _list(of: Document) -> Document:
    return {"type": "array", "items": of, "minItems": 1}


def _of(optional: Document | None = None, /, **required: Document) -> Document:
    properties = {**(optional or {}), **required}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_MATCH = _of({"matchLabels": _TEXTS, "matchExpressions": _list(_of(key=_TEXT, operator=_TEXT, values=_list(_TEXT)))})
_PROBE = _of(
    httpGet=_of(path={"type": "string", "pattern": "^/"}, port=_TEXT),
    periodSeconds=_COUNT, timeoutSeconds=_COUNT, failureThreshold=_COUNT,
)  # fmt: skip
_CONTAINER = _of(
    {
        "ports": _list(_of(name=_TEXT, containerPort=_PORT)),
        "envFrom": _list(_of(configMapRef=_of(name=_TEXT))),
        **dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), _PROBE),
    },
    name=_TEXT,
    image=_TEXT,
    env=_list(_of(name=_TEXT, valueFrom=_of(secretKeyRef=_of({"optional": _FLAG}, name=_TEXT, key=_TEXT)))),
    securityContext=_of(
        allowPrivilegeEscalation=_FLAG, readOnlyRootFilesystem=_FLAG, capabilities=_of(drop=_list(_TEXT))
    ),
    resources=_of(requests=_of(cpu=_AMOUNT, memory=_AMOUNT), limits=_of(cpu=_AMOUNT, memory=_AMOUNT)),
    volumeMounts=_list(_of(name=_TEXT, mountPath=_TEXT)),
)
_POD = _of(
    {
        "terminationGracePeriodSeconds": _COUNT,
        "restartPolicy": _one_of("Never"),
        "topologySpreadConstraints": _list(
            _of(
                topologyKey=_TEXT, maxSkew=_COUNT, whenUnsatisfiable=_one_of("ScheduleAnyway", "DoNotSchedule"),
                matchLabelKeys=_list(_TEXT), labelSelector=_MATCH,
            )
        ),
    },
    serviceAccountName=_TEXT, automountServiceAccountToken=_FLAG, enableServiceLinks=_FLAG, shareProcessNamespace=_FLAG,
    securityContext=_of(
        runAsNonRoot=_FLAG, runAsUser=_COUNT, runAsGroup=_COUNT, seccompProfile=_of(type=_one_of("RuntimeDefault"))
    ),
    containers=_list(_CONTAINER),
    volumes=_list(_of(name=_TEXT, emptyDir=_of(medium=_one_of("Memory"), sizeLimit=_AMOUNT))),
)  # fmt: skip
_TEMPLATE = _of(metadata=_of(labels=_TEXTS), spec=_POD)
_PORTS = _list(_of(protocol=_one_of("TCP", "UDP"), port=_PORT))
_PEERS = _list(
    _of(
        {
            "podSelector": _MATCH,
            "namespaceSelector": _MATCH,
            "ipBlock": _of({"except": _list(_TEXT)}, cidr=_TEXT),
        }
    )
)
_BACKEND = _of(service=_of(name=_TEXT, port=_of(name=_TEXT)))
_PATH = _of(path=_TEXT, pathType=_one_of("Exact", "Prefix"), backend=_BACKEND)
_TARGET = _of(type=_one_of("Utilization"), averageUtilization=_COUNT)
_RELABELING = _of(action=_one_of("replace"), targetLabel=_TEXT, replacement=_TEXT)
_SPECS: dict[tuple[str, str], Document] = {
    ("apps/v1", "Deployment"): _of(
        revisionHistoryLimit=_COUNT, progressDeadlineSeconds=_COUNT, selector=_MATCH, template=_TEMPLATE,
        strategy=_of(type=_one_of("RollingUpdate"), rollingUpdate=_of(maxUnavailable=_COUNT, maxSurge=_COUNT)),
    ),
    ("batch/v1", "Job"): _of(
        backoffLimit=_COUNT, activeDeadlineSeconds=_COUNT, ttlSecondsAfterFinished=_COUNT, template=_TEMPLATE
    ),
    ("v1", "Service"): _of(selector=_TEXTS, ports=_list(_of(name=_TEXT, port=_PORT, targetPort=_TEXT))),
    ("policy/v1", "PodDisruptionBudget"): _of(
        maxUnavailable=_COUNT, selector=_MATCH, unhealthyPodEvictionPolicy=_one_of("AlwaysAllow")
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): _of(
        scaleTargetRef=_of(apiVersion=_one_of("apps/v1"), kind=_one_of("Deployment"), name=_TEXT),
        minReplicas=_COUNT, maxReplicas=_COUNT,
        metrics=_list(_of(type=_one_of("Resource"), resource=_of(name=_one_of("cpu"), target=_TARGET))),
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): _of(
        {"ingress": _list(_of({"from": _PEERS, "ports": _PORTS})), "egress": _list(_of({"to": _PEERS, "ports": _PORTS}))},
        podSelector=_MATCH, policyTypes=_list(_one_of("Ingress", "Egress")),
    ),
    ("networking.k8s.io/v1", "Ingress"): _of(
        tls=_list(_of(hosts=_list(_TEXT), secretName=_TEXT)), rules=_list(_of(host=_TEXT, http=_of(paths=_list(_PATH))))
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _of(
        selector=_MATCH,
        endpoints=_list(
            _of(port=_TEXT, path=_TEXT, interval=_TEXT, scrapeTimeout=_TEXT, relabelings=_list(_RELABELING))
        ),
    ),
}  # fmt: skip
_WITHOUT_SPEC: dict[tuple[str, str], Document] = {
    ("v1", "ServiceAccount"): {"automountServiceAccountToken": _FLAG},
    ("v1", "ConfigMap"): {"data": _TEXTS},
    ("v1", "Secret"): {"stringData": _TEXTS},
}


def wrong_with(document: Document) -> list[str]:
    """Return what is not as Kubernetes wants it, keys that it does not know included."""
    kind = (document.get("apiVersion", ""), document.get("kind", ""))
    rest = _WITHOUT_SPEC.get(kind) or {"spec": _SPECS.get(kind, False)}
    name = {"type": "string", "pattern": r"^[a-z]([a-z-]{0,50}[a-z])?$"}
    shape = _of(
        apiVersion=_TEXT, kind=_TEXT, metadata=_of({"namespace": _TEXT, "labels": _TEXTS}, name=name), **rest
    )  # fmt: skip
    return [
        f"{list(error.absolute_path)}: {error.message}" for error in Draft202012Validator(shape).iter_errors(document)
    ]
