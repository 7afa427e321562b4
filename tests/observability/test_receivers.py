"""Who hears what: Alertmanager's routes and secrets, by its own tool and the manifests around it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "manifests" / "observability" / "alertmanager"
FILE = FOLDER / "alertmanager.yml"


def test_the_configuration_can_be_loaded(tool):
    done = subprocess.run(
        [tool("amtool", "prometheus-alertmanager"), "check-config", FILE], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "RevisionErrors", "severity": "page"}, "pages"),
        ({"alertname": "CanaryStuck", "severity": "ticket"}, "tickets"),
        ({"alertname": "Drift", "severity": "ticket", "action": "retrain"}, "pipeline,tickets"),
        ({"alertname": "NewData", "severity": "info", "action": "retrain"}, "pipeline,nobody"),
        ({"alertname": "Watchdog", "severity": "info"}, "nobody"),
        ({"alertname": "of somebody else"}, "tickets"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["alertname"],
)
def test_route(tool, labels, receivers):
    words = [f"{name}={value}" for name, value in labels.items()]
    command = [tool("amtool", "prometheus-alertmanager"), "config", "routes", "test", f"--config.file={FILE}", *words]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == receivers


def test_every_alert_that_asks_for_training_is_meant_to(every_rule):
    asking = {rule["alert"] for rule in every_rule if rule.get("labels", {}).get("action")}
    assert asking == {"Drift", "NewData"}
    assert all(rule["labels"]["action"] == "retrain" for rule in every_rule if rule.get("alert") in asking)


def test_every_alert_that_keeps_another_back_exists(every_rule):
    alerts = {rule["alert"] for rule in every_rule if "alert" in rule}
    rules = yaml.safe_load(FILE.read_text())["inhibit_rules"]
    named = re.findall(r'alertname=~?"([^"]+)"', str(rules))
    assert named
    assert {name for pattern in named for name in pattern.split("|")} <= alerts


def test_every_secret_that_is_read_is_mounted():
    read = set(re.findall(r"/etc/alertmanager/secrets/([\w-]+)", FILE.read_text()))
    secret = yaml.safe_load((FOLDER / "receivers.yaml").read_text())
    assert read == {one["secretKey"] for one in secret["spec"]["data"]}
    words = FILE.read_text().lower()
    assert not re.search(r"^\s*(api_url|routing_key|password|credentials|bearer_token):", words, re.MULTILINE)
