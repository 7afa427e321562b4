"""The kinds of objects that are kept, and what makes a stored one unusable. Knows no process."""

from pydantic import BaseModel

from serving.embedded import schema
from serving.embedded.state import Object
from serving.embedded.template import Template

SERVICES, RUNTIMES, REVISIONS = "inferenceservices", "servingruntimes", "revisions"


class RevisionSpec(BaseModel):
    service: str
    template: Template


class RevisionRecord(BaseModel):
    """What is kept of a revision, so that a rollback finds it after a restart."""

    metadata: schema.Metadata
    spec: RevisionSpec


def unusable(plural: str, stored: Object) -> str:
    """Why a stored object cannot be worked with; "" when it can."""
    models: dict[str, type[BaseModel]] = {
        SERVICES: schema.InferenceService,
        RUNTIMES: schema.ServingRuntime,
        REVISIONS: RevisionRecord,
    }
    return "; ".join(f"{p.field}: {p.message}" for p in schema.problems(models[plural], stored))
