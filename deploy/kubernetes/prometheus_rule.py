"""`python -m deploy.kubernetes.prometheus_rule` makes the Prometheus operator's resource of deploy/prometheus/rules/*.yml.

Only developers run this: the rules stay in one place, and what is made of them is committed. A test sees when it is behind.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[1]
FILE = DEPLOY / "kubernetes/prometheus/rules.yaml"
_HEAD = """\
# Made from deploy/prometheus/rules/*.yml by `python -m deploy.kubernetes.prometheus_rule`; change those and run it again.
"""


class _Writer(yaml.SafeDumper):
    """Writes text of several lines as such a block, which is how the rules are read best."""


def _text(writer: _Writer, text: str) -> yaml.ScalarNode:
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Writer.add_representer(str, _text)


def render(files: Sequence[Path]) -> str:
    """Return a PrometheusRule with the groups of these files, in their order; the same text each time."""
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "holdfast"},
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.dump(rule, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10_000)


def sources() -> list[Path]:
    """Return the files of rules that Prometheus reads where there is no operator."""
    return sorted((DEPLOY / "prometheus/rules").glob("*.yml"))


def main() -> None:
    FILE.write_text(render(sources()))
    print(f"deploy/{FILE.relative_to(DEPLOY)}")


if __name__ == "__main__":
    main()
