"""What everything else stands on: replicas, volumes, Redis, Kafka, and what Prometheus misses. Knows exporters."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.panels import BYTES, EVERY, NUMBER, SECONDS, SHARE, Board, Query, bars, figure, lines, rows

OURS = 'namespace=~"kubeflow|slipway-.*"'


def board() -> Dashboard:
    return (
        Board("platform", "platform", "Deployments, volumes, Redis, Kafka, and what Prometheus itself sees and misses.")
        .row(
            "Now",
            figure(
                "Alerts",
                "Firing, without the watchdog.",
                NUMBER,
                Query('count(ALERTS{alertstate="firing",severity!="info"})'),
                top=1,
            ),
            figure("Targets down", "Cannot be scraped.", NUMBER, Query("count(up == 0)"), top=1),
            figure("Redis", "1: answers.", NUMBER, Query("min(redis_up)")),
            figure(
                "PostgreSQL",
                "Replicas that are ready.",
                NUMBER,
                Query(
                    'sum(kube_statefulset_status_replicas_ready{namespace="slipway-platform",statefulset="postgres"})'
                ),
            ),
            figure(
                "MLflow",
                "Replicas that answer.",
                NUMBER,
                Query(
                    'sum(kube_deployment_status_replicas_available{namespace="slipway-platform",deployment="mlflow"})'
                ),
            ),
            figure("Kafka brokers", "As the exporter sees them.", NUMBER, Query("max(kafka_brokers)")),
        )
        .row(
            "Alerts",
            rows("Firing", "Each names its runbook in Alertmanager.", Query('ALERTS{alertstate="firing"}')),
        )
        .row(
            "Workloads",
            lines(
                "Replicas missing",
                "Wanted and not available.",
                NUMBER,
                Query(
                    f"kube_deployment_spec_replicas{{{OURS}}}"
                    f" - kube_deployment_status_replicas_available{{{OURS}}} > 0",
                    "{{namespace}}/{{deployment}}",
                ),
            ),
            lines(
                "Restarts",
                "Of containers, in an hour.",
                NUMBER,
                Query(
                    f"sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total{{{OURS}}}[1h])) > 0",
                    "{{namespace}}/{{pod}}",
                ),
            ),
            bars(
                "Volumes",
                "Share in use.",
                SHARE,
                Query(
                    f"1 - kubelet_volume_stats_available_bytes{{{OURS}}}"
                    f" / kubelet_volume_stats_capacity_bytes{{{OURS}}}",
                    "{{namespace}}/{{persistentvolumeclaim}}",
                ),
            ),
        )
        .row(
            "Redis",
            lines(
                "Memory",
                "Used, and the limit.",
                BYTES,
                Query("redis_memory_used_bytes", "used"),
                Query("redis_memory_max_bytes > 0", "limit"),
            ),
            lines(
                "Commands",
                "Per second.",
                "ops",
                Query(f"rate(redis_commands_processed_total[{EVERY}])", "{{instance}}"),
            ),
            lines(
                "Evicted keys",
                "Features that somebody will miss, per second.",
                "cps",
                Query(f"rate(redis_evicted_keys_total[{EVERY}])", "evicted"),
            ),
        )
        .row(
            "Kafka",
            lines(
                "Under-replicated partitions",
                "Should be 0.",
                NUMBER,
                Query("sum by (topic) (kafka_topic_partition_under_replicated_partition)", "{{topic}}"),
                width=12,
            ),
            lines(
                "Messages",
                "Written per second, by topic.",
                "cps",
                Query(f"sum by (topic) (rate(kafka_topic_partition_current_offset[{EVERY}]))", "{{topic}}"),
                width=12,
            ),
        )
        .row(
            "Prometheus",
            lines("Series", "In memory.", NUMBER, Query("prometheus_tsdb_head_series", "{{instance}}")),
            lines(
                "Samples",
                "Taken in per second.",
                "cps",
                Query(f"rate(prometheus_tsdb_head_samples_appended_total[{EVERY}])", "{{instance}}"),
            ),
            lines(
                "Seconds of a rule group",
                "Must stay well below its interval of 30 s.",
                SECONDS,
                Query("prometheus_rule_group_last_duration_seconds", "{{rule_group}}"),
            ),
        )
        .build()
    )
