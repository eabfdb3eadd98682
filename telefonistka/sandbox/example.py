"""A small repository such as platform teams keep, and a change to it: what the demo shows.

One cluster in the lab, two for staging, three for production; three components, of which `payments` is new and is
kept out of production by its own `telefonistka.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

OWNER = "acme"
NAME = "deployments"

LAB = "clusters/lab/us-east1/c1/"
STAGING = ("clusters/staging/europe-west4/c1/", "clusters/staging/us-east4/c1/")
PRODUCTION = (
    "clusters/production/asia-east1/c1/",
    "clusters/production/europe-west4/c1/",
    "clusters/production/us-east4/c1/",
)
RELEASED = ("nginx", "redis")  # the components that production has
BLOCKED = "payments"
LABEL = "quick_promotion"

BRANCH = "newer-versions"
TITLE = "Newer nginx, redis and payments"

ROOT = """\
# What is merged below a sourcePath is promoted, component by component, to its targetPaths.
promotionPaths:
  - sourcePath: clusters/lab/[^/]*/[^/]*/
    promotionPrs:
      - targetDescription: Staging
        targetPaths:
          - clusters/staging/europe-west4/c1/
          - clusters/staging/us-east4/c1/

  # A pull request with this label goes to all of production at once.
  - sourcePath: clusters/staging/[^/]*/[^/]*/
    conditions:
      prHasLabels:
        - quick_promotion
    promotionPrs:
      - targetDescription: Production, everywhere
        targetPaths:
          - clusters/production/asia-east1/c1/
          - clusters/production/europe-west4/c1/
          - clusters/production/us-east4/c1/

  # All others in two steps.
  - sourcePath: clusters/staging/[^/]*/[^/]*/
    promotionPrs:
      - targetDescription: Production Europe
        targetPaths:
          - clusters/production/europe-west4/c1/
      - targetDescription: Production America and Asia
        targetPaths:
          - clusters/production/asia-east1/c1/
          - clusters/production/us-east4/c1/
"""

RULE = """\
# Not before the audit in spring.
promotionTargetBlockList:
  - ^clusters/production/
"""

README = """\
# Deployments

One directory per cluster, one directory per component in it. Change `clusters/lab/`, open a pull request and merge
it; Telefonistka takes it from there, by the rules in `telefonistka.yaml`.
"""

CHART = """\
apiVersion: v2
name: {name}
version: 1.0.0
dependencies:
  - name: {name}
    version: {version}
    repository: oci://charts.example.com/{name}
"""

NGINX = """\
replicaCount: {replicas}
service:
  type: ClusterIP
resources:
  requests: {{cpu: 100m, memory: 64Mi}}
"""

REDIS = """\
architecture: replication
replica:
  replicaCount: {replicas}
maxmemoryPolicy: {policy}
"""

PAYMENTS = """\
replicaCount: {replicas}
queue: redis://redis-master:6379/0
"""

DISRUPTION = """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: nginx
spec:
  minAvailable: 2
  selector:
    matchLabels: {app: nginx}
"""

ARGO_CDS = ("europe-west4", "us-east1", "us-east4", "asia-east1", "central")  # one per region, one for all
RELAY = """
# Every push below clusters/ is told to each Argo CD at once.
webhookEndpointRegexs:
  - expression: ^clusters/.*
    replacements:
"""
NOTE = "clusters/README.md"

SENTINEL = "sentinel: false  # gone with chart 20\n"


def files() -> dict[str, str]:
    """The repository before the change, by path."""
    everywhere = (LAB, *STAGING, *PRODUCTION)
    found = {"README.md": README, "telefonistka.yaml": ROOT}
    for cluster in everywhere:
        components = RELEASED if cluster in PRODUCTION else (*RELEASED, BLOCKED)
        found |= {cluster + path: text for name in components for path, text in component(name)}
    return found


def relay(urls: Iterable[str]) -> str:
    """The rule that tells these addresses of every push."""
    return RELAY + "".join(f"      - {url}\n" for url in urls)


def component(name: str) -> Iterator[tuple[str, str]]:
    """The files of one component, by path below its cluster's directory."""
    match name:
        case "nginx":
            yield "nginx/Chart.yaml", CHART.format(name="nginx", version="18.2.4")
            yield "nginx/values.yaml", NGINX.format(replicas=2)
        case "redis":
            yield "redis/Chart.yaml", CHART.format(name="redis", version="19.6.0")
            yield "redis/values.yaml", REDIS.format(replicas=2, policy="noeviction")
            yield "redis/sentinel.yaml", SENTINEL
        case "payments":
            yield "payments/Chart.yaml", CHART.format(name="payments", version="0.9.1")
            yield "payments/values.yaml", PAYMENTS.format(replicas=1)
            yield "payments/telefonistka.yaml", RULE


def change() -> dict[str, str | None]:
    """What the person changes in the lab, by path; None is a file that goes away."""
    return {
        f"{LAB}nginx/Chart.yaml": CHART.format(name="nginx", version="21.0.1"),
        f"{LAB}nginx/values.yaml": NGINX.format(replicas=3),
        f"{LAB}nginx/templates/disruption.yaml": DISRUPTION,
        f"{LAB}redis/Chart.yaml": CHART.format(name="redis", version="20.3.0"),
        f"{LAB}redis/values.yaml": REDIS.format(replicas=3, policy="allkeys-lru"),
        f"{LAB}redis/sentinel.yaml": None,
        f"{LAB}payments/Chart.yaml": CHART.format(name="payments", version="1.0.0"),
    }
