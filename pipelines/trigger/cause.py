"""What outside messages mean: GitHub's pushes, Alertmanager's alerts, S3's notifications. Knows forms, no sender.

A message that does not have its sender's form is a RequestError; one that has, and is no reason to train, is Ignored
with the reason in words. Fields that we do not read are theirs to change.

GitHub: docs.github.com/webhooks/webhook-events-and-payloads#push; Alertmanager: webhook payload version 4
(prometheus.io/docs/alerting/latest/configuration/#webhook_config); S3: docs.aws.amazon.com/AmazonS3/latest/userguide/
notification-content-structure.html and EventBridge's "Object Created".
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from slipway.errors import RequestError
from slipway.package import Frozen

DATA_SET = r"^[a-z0-9][a-z0-9_-]*$"
MAX_COMMITS = 2048  # GitHub leaves out the rest of a longer push
NOBODY = "0" * 40  # `after` of a deleted branch


class Reason(StrEnum):
    PUSH = "push"
    DATA = "data"
    ALERT = "alert"
    SCHEDULE = "schedule"
    MANUAL = "manual"


class Cause(Frozen):
    """key: the same when the same thing is told twice; what: for people; data: the run's --data, "" the usual."""

    reason: Reason
    key: str = Field(min_length=1, max_length=200, pattern=r"^[\w@:./+-]+$")
    what: str = Field(max_length=300)
    data: str = Field("", pattern=r"^(lake:[a-z0-9][a-z0-9_-]*(@[0-9]{1,18})?)?$")

    @property
    def lane(self) -> str:
        """Causes of one lane share a window, and wait as one."""
        data_set = self.data.removeprefix("lake:").partition("@")[0]
        return f"{self.reason}:{data_set}" if data_set else str(self.reason)


@dataclass(frozen=True)
class Ignored:
    """An honest message that starts nothing."""

    why: str


@dataclass(frozen=True)
class Alerts:
    """What an Alertmanager says: causes that fire, and the keys of those that are over."""

    firing: tuple[Cause, ...]
    over: tuple[str, ...]


class _Theirs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Commit(_Theirs):
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()


class _Repository(_Theirs):
    full_name: str


class _Push(_Theirs):
    ref: str
    after: str = Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")
    deleted: bool = False
    repository: _Repository
    commits: tuple[_Commit, ...] = ()


class _Alert(_Theirs):
    status: str = Field(pattern="^(firing|resolved)$")
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: AwareDatetime  # noqa: N815 - theirs
    fingerprint: str = Field(pattern="^[0-9a-f]{1,64}$")


class _Webhook(_Theirs):
    version: str = Field(pattern="^4$")
    alerts: tuple[_Alert, ...] = Field(min_length=1)


class _Bucket(_Theirs):
    name: str


class _Object(_Theirs):
    key: str


class _S3(_Theirs):
    bucket: _Bucket
    object: _Object


class _Record(_Theirs):
    eventName: str  # noqa: N815 - theirs
    s3: _S3


class _Notification(_Theirs):
    Records: tuple[_Record, ...] = Field(min_length=1)


class _Event(_Theirs):
    """EventBridge's."""

    source: str = Field(pattern=r"^aws\.s3$")
    detail: _S3


class _Version(Frozen):
    """Our own: `slipway trigger send data`."""

    data_set: str = Field(pattern=DATA_SET)
    version: int = Field(ge=0, lt=10**18)


Form = TypeVar("Form", bound=BaseModel)


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """signature: of the header X-Hub-Signature-256; compared in constant time."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


def of_push(payload: Any, repository: str, branch: str, training_code: Sequence[str]) -> Cause | Ignored:
    """training_code: the beginnings of paths whose change is a reason to train. Raises RequestError."""
    push = read(_Push, payload, "GitHub's push event")
    if push.repository.full_name != repository:
        raise RequestError(
            f"the push is to {push.repository.full_name}, not to {repository}",
            "point that repository's webhook elsewhere, or set SLIPWAY_TRIGGER_REPOSITORY",
        )
    if push.ref != f"refs/heads/{branch}":
        return Ignored(f"{push.ref} is not the branch {branch}")
    if push.deleted or push.after == NOBODY:
        return Ignored(f"the branch {branch} was deleted")
    changed = {path for c in push.commits for path in (*c.added, *c.removed, *c.modified)}
    touched = sorted(path for path in changed if path.startswith(tuple(training_code)))
    # A forced push lists no commits, a long one not all of them: then nobody can know that nothing was touched.
    whole = 0 < len(push.commits) < MAX_COMMITS
    if whole and not touched:
        return Ignored(f"none of the {len(changed)} changed files is training code")
    what = f"{touched[0]} and {len(touched) - 1} more" if len(touched) > 1 else touched[0] if touched else "all of it"
    return Cause(reason=Reason.PUSH, key=push.after, what=_plain(f"training code of {push.after[:12]}: {what}"))


def of_alerts(payload: Any, label: str, value: str) -> Alerts:
    """Of the alerts that have the label with that value; those without it ask for no training. Raises RequestError."""
    webhook = read(_Webhook, payload, "Alertmanager's webhook")
    firing, over = [], []
    for alert in webhook.alerts:
        if alert.labels.get(label) != value:
            continue
        key = f"{alert.fingerprint}@{alert.startsAt.isoformat()}"
        if alert.status == "resolved":
            over.append(key)
            continue
        data_set = alert.labels.get("data_set", "")
        name, summary = alert.labels.get("alertname", "?"), alert.annotations.get("summary", "")
        firing.append(
            Cause(
                reason=Reason.ALERT,
                key=key,
                what=_plain(f"{name}: {summary}" if summary else name),
                data=f"lake:{data_set}" if re.fullmatch(DATA_SET, data_set) else "",
            )
        )
    return Alerts(tuple(firing), tuple(over))


def of_data(payload: Any, store: str) -> tuple[Cause, ...] | Ignored:
    """A new version of a data set's clean events, which is a commit in its Delta log. store: the lake's URI.

    Raises RequestError for another bucket than the lake's: such a notification was configured wrongly.
    """
    if isinstance(payload, Mapping) and payload.get("Event") == "s3:TestEvent":
        return Ignored("S3's own test message")
    if isinstance(payload, Mapping) and "data_set" in payload:
        told = read(_Version, payload, "a data set's version")
        return (_of_version(told.data_set, told.version),)
    if isinstance(payload, Mapping) and "Records" in payload:
        records = read(_Notification, payload, "an S3 notification").Records
        places = [r.s3 for r in records if r.eventName.removeprefix("s3:").startswith("ObjectCreated:")]
        keys = [(place.bucket.name, unquote_plus(place.object.key)) for place in places]  # only here they are quoted
    else:
        event = read(_Event, payload, "an S3 notification or EventBridge event").detail
        keys = [(event.bucket.name, event.object.key)]
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    commit = re.compile(
        rf"{re.escape(prefix.strip('/'))}/?processed/([a-z0-9][a-z0-9_-]*)/events/_delta_log/([0-9]{{20}})\.json"
    )
    newest: dict[str, int] = {}
    for name, key in keys:
        if not store.startswith("s3://") or name != bucket:
            raise RequestError(f"{name} is not the lake's bucket", f"the lake is {store}; correct the notification")
        if found := commit.fullmatch(key):
            newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
    if not newest:
        return Ignored("no object of it is a new version of a data set's events")
    return tuple(_of_version(*pair) for pair in sorted(newest.items()))


def _of_version(data_set: str, version: int) -> Cause:
    data = f"lake:{data_set}@{version}"
    return Cause(reason=Reason.DATA, key=data, what=f"version {version} of {data_set}", data=data)


def read(form: type[Form], payload: Any, name: str) -> Form:
    """payload as form. Raises RequestError: name is what it should be."""
    try:
        return form.model_validate(payload)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()[:3])
        raise RequestError(f"this is not {name}: {wrong}", "check what sends here") from error


def _plain(text: str) -> str:
    """One line that a terminal or a log shows as it is."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
