"""Who may do what, and what must never lie in Git. Follows Kubernetes' RBAC good practices."""

from collections.abc import Iterator

from cluster.estate import Estate
from cluster.lints.lint import Broken, lint
from cluster.objects import at, listed

POWERS = ("escalate", "bind", "impersonate")
EVERYBODY = ("system:anonymous", "system:unauthenticated", "system:authenticated", "system:masters")


@lint("rbac-wildcard", "A role names its groups, resources and verbs.", "list what is needed instead of *")
def wildcards(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Role", "ClusterRole"):
        for index, rule in enumerate(listed(thing.document, "rules")):
            for key in ("apiGroups", "resources", "verbs"):
                if any("*" in str(value) for value in listed(rule, key)):
                    yield Broken(thing, f"rules[{index}].{key}", f"{key}: everything, also what comes later")


@lint("rbac-escalation", "No role can give itself more.", "remove escalate, bind and impersonate")
def escalation(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Role", "ClusterRole"):
        for index, rule in enumerate(listed(thing.document, "rules")):
            found = sorted(set(POWERS) & set(listed(rule, "verbs")))
            if found:
                yield Broken(thing, f"rules[{index}].verbs", f"{', '.join(found)} is all rights in the end")


@lint(
    "rbac-secrets",
    "Who may read Secrets may read those that it needs, by name.",
    "set resourceNames, and leave out list and watch",
)
def secrets(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Role", "ClusterRole"):
        for index, rule in enumerate(listed(thing.document, "rules")):
            if "secrets" in listed(rule, "resources") and not listed(rule, "resourceNames"):
                where = "of the cluster" if thing.kind == "ClusterRole" else "of the namespace"
                yield Broken(thing, f"rules[{index}]", f"it reads every Secret {where}")


@lint("rbac-subject", "A binding is for named people or services, never for everybody.", "name a group or an account")
def subjects(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("RoleBinding", "ClusterRoleBinding"):
        for index, subject in enumerate(listed(thing.document, "subjects")):
            if subject.get("name") in EVERYBODY:
                yield Broken(thing, f"subjects[{index}]", f"{subject.get('name')} is everybody")
            if subject.get("kind") == "ServiceAccount" and subject.get("name") == "default":
                yield Broken(thing, f"subjects[{index}]", "every pod that names no account is default")
        if at(thing.document, "roleRef.name") == "cluster-admin":
            yield Broken(thing, "roleRef", "cluster-admin may do everything")


@lint("role-unbound", "A role is somebody's.", "bind it: RoleBinding or ClusterRoleBinding; or remove it")
def unbound(estate: Estate) -> Iterator[Broken]:
    bindings = estate.all("RoleBinding", "ClusterRoleBinding")
    for thing in estate.of("Role", "ClusterRole"):
        if any("aggregate-to" in key for key in thing.labels):
            continue  # becomes a part of another role
        bound = any(
            at(b.document, "roleRef.kind") == thing.kind
            and at(b.document, "roleRef.name") == thing.name
            and thing.namespace in {"", b.namespace}
            for b in bindings
        )
        if not bound:
            yield Broken(thing, "metadata.name", "nobody has it")


@lint("secret-in-git", "No Secret lies in Git.", "use an ExternalSecret of ClusterSecretStore slipway")
def plain_secrets(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Secret"):
        if thing.document.get("data") or thing.document.get("stringData"):
            yield Broken(thing, "data", "whoever reads the repository reads it")


@lint(
    "pod-security",
    "A namespace of ours admits only restricted pods.",
    "label it pod-security.kubernetes.io/enforce: restricted",
)
def pod_security(estate: Estate) -> Iterator[Broken]:
    for thing in estate.of("Namespace"):
        level = thing.labels.get("pod-security.kubernetes.io/enforce")
        if thing.name.startswith("slipway") and level != "restricted":
            yield Broken(thing, "metadata.labels", f"it enforces {level or 'nothing'}")


@lint(
    "token",
    "A pod that asks nothing of the Kubernetes API has no token of it.",
    "set automountServiceAccountToken: false",
)
def tokens(estate: Estate) -> Iterator[Broken]:
    for pod in estate.my_pods():
        if pod.owner.kind not in {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}:
            continue
        name = str(pod.spec.get("serviceAccountName") or "default")
        account = estate.get("ServiceAccount", pod.namespace, name)
        mounted = pod.spec.get("automountServiceAccountToken")
        if mounted is None:
            mounted = account.document.get("automountServiceAccountToken", True) if account else True
        bound = any(
            s.get("kind") == "ServiceAccount" and s.get("name") == name
            and str(s.get("namespace") or b.namespace) == pod.namespace
            for b in estate.all("RoleBinding", "ClusterRoleBinding")
            for s in listed(b.document, "subjects")
        )  # fmt: skip
        identity = account is not None and any("role-arn" in key or "identity" in key for key in account.annotations)
        if mounted and not bound and not identity:
            yield Broken(pod.owner, f"{pod.path}.automountServiceAccountToken", f"{name} has no role, and a token")
