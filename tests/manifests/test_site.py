"""A cluster's own names: told once, written everywhere, refused before anything is built where they cannot be."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from cluster import overlays, site

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")

# Each other than what the repository has, so that what is left of that is seen.
OTHER = {
    "lake": "other-lake",
    "mlflow": "other-mlflow",
    "packages": "other-packages",
    "region": "us-west-2",
    "s3-host": "objects.example.org:7480",
    "name": "slipway-staging-proj07",
    "environment": "staging",
    "suffix": "proj07",
    "account": "210987654321",
    "postgres-disk": "5a1f0c9e-1111-2222-3333-444455556666",
    "postgres-zone": "us-west-2b",
    "domain": "models.example.org",
    "hooks-host": "push.example.org",
    "repository": "somebody/something",
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    root = tmp_path / "manifests"
    shutil.copytree(overlays.ROOT / "site", root / "site")
    return root


def change(root: Path, **values: str | None) -> None:
    path = root / site.FILE
    document = yaml.safe_load(path.read_text())
    for key, value in values.items():
        name = key.replace("_", "-")
        if value is None:
            del document["data"][name]
        else:
            document["data"][name] = value
    path.write_text(yaml.safe_dump(document))


@needs_kubectl
def test_whatever_is_told_there_is_written_everywhere(copied: Path) -> None:
    shutil.copytree(overlays.ROOT, copied, dirs_exist_ok=True)
    here = yaml.safe_load((copied / site.FILE).read_text())["data"]
    assert set(here) == set(OTHER)
    change(copied, **{key.replace("-", "_"): value for key, value in OTHER.items()})
    built = overlays.build_all(overlays.find(copied))
    assert not [one.findings for one in built if one.findings]
    text = "\n".join(yaml.safe_dump(thing.document, width=1000) for one in built for thing in one.objects)
    # A package's place is a promotion's; the environments' own names hold "production" and "staging" anyway.
    text = re.sub(r"s3://[\w-]+/slipway/packages/\S+", "", text)
    for key, value in OTHER.items():
        assert value in text, f"{key} is written nowhere"
        if key not in {"environment", "suffix", "account"}:  # seen in the roles, below
            left = [
                line for line in text.splitlines() if re.search(rf"(?<![\w.-]){re.escape(here[key])}(?![\w.-])", line)
            ]
            assert not left, f"{key}: {left[:3]}"
    roles = set(re.findall(r"arn:aws:iam::\S+", text))
    assert len(roles) > 10
    assert all(role.startswith("arn:aws:iam::210987654321:role/slipway-staging-proj07-") for role in roles), roles


def test_the_repositorys_own_site_fits() -> None:
    assert list(site.check(overlays.ROOT)) == []


@pytest.mark.parametrize(
    ("values", "where", "says"),
    [
        ({"lake": "My_Lake"}, "data.lake", "lake cannot be 'My_Lake'"),
        ({"lake": "slipway-mlflow"}, "data", "are one bucket"),
        ({"packages": None}, "data.packages", "packages is missing"),
        ({"bucket": "x"}, "data.bucket", "nobody reads bucket"),
        ({"account": 12}, "data.account", "no text: quote it"),
        ({"environment": "live"}, "data", "there is no environment 'live'; there are: staging, canary, production"),
        ({"suffix": "proj07"}, "data", "environment and suffix make slipway-production-proj07"),
        ({"postgres_zone": "us-west-2a"}, "data", "postgres-zone us-west-2a is not in region eu-central-1"),
        ({"s3_host": "s3.us-west-2.amazonaws.com"}, "data", "is not that of region eu-central-1"),
        ({"postgres_disk": "vol-1"}, "data.postgres-disk", "cannot be 'vol-1'"),
        ({"s3_host": "https://s3.example.org"}, "data.s3-host", "cannot be 'https://s3.example.org'"),
        ({"repository": "slipway"}, "data.repository", "cannot be 'slipway'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(copied: Path, values, where: str, says: str) -> None:
    change(copied, **values)
    [finding] = site.check(copied)
    assert (finding.object, finding.path) == ("site/site.yaml", where)
    assert says in finding.message
    assert "terraform" in finding.remedy


def test_a_site_of_another_name_is_told_as_that(copied: Path) -> None:
    text = (copied / site.FILE).read_text()
    (copied / site.FILE).write_text(text.replace("  name: site\n", "  name: slipway-production-proj07\n"))
    [finding] = site.check(copied)
    assert (finding.path, finding.remedy) == ("metadata.name", "name: site")


@pytest.mark.parametrize("text", ["", "data: []\n", "data: {a: 1, a: 2}\n", "kind: ConfigMap\n"])
def test_a_file_that_is_none_ends_in_a_finding(copied: Path, text: str) -> None:
    (copied / site.FILE).write_text(text)
    assert [finding.check for finding in site.check(copied)] == ["site"]
