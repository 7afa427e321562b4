"""The way back: what is captured, what the consumer makes of it, and how old features are. Knows their metrics."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.panels import BYTES, EVERY, NUMBER, SECONDS, SHARE, Board, Query, figure, lines


def board() -> Dashboard:
    return (
        Board("stream", "stream and capture", "From an answer to a feature: captured, sent, committed, and how late.")
        .row(
            "Now",
            figure(
                "Messages",
                "Committed per second.",
                "cps",
                Query("stream:slipway_stream_messages:rate5m"),
            ),
            figure(
                "Lag p95",
                "From the stream to the acknowledgement, oldest of a batch.",
                SECONDS,
                Query("stream:slipway_stream_lag_seconds:p95_5m"),
                top=10,
            ),
            figure(
                "Set aside",
                "Share of the last hour's messages.",
                SHARE,
                Query("stream:slipway_stream_rejected:ratio_rate1h"),
                top=0.05,
            ),
            figure(
                "Waiting in Kafka",
                "Messages that the consumer has not committed.",
                NUMBER,
                Query('sum(kafka_consumergroup_lag{consumergroup="slipway"})'),
                top=100_000,
            ),
            figure(
                "On spools", "Captured, not sent yet.", BYTES, Query("sum(slipway_capture_spool_bytes)"), top=128 << 20
            ),
            figure(
                "Dropped, 1 h",
                "Captured answers that are lost.",
                NUMBER,
                Query('sum(increase(slipway_capture_total{outcome="dropped"}[1h]))'),
                top=1,
            ),
        )
        .row(
            "Capture",
            lines(
                "By outcome",
                "sent, spooled (sent later), dropped (lost), sampled_out.",
                "cps",
                Query(
                    f"sum by (namespace, outcome) (rate(slipway_capture_total[{EVERY}]))", "{{namespace}} {{outcome}}"
                ),
                width=12,
            ),
            lines(
                "Spool",
                "Bytes on each replica's disk.",
                BYTES,
                Query("slipway_capture_spool_bytes", "{{pod}}"),
                width=12,
            ),
        )
        .row(
            "Consumer",
            lines(
                "Messages",
                "Accepted: new in the lake. Known: delivered again.",
                "cps",
                Query(f"sum(rate(slipway_stream_messages_total[{EVERY}]))", "all"),
                Query(f"sum(rate(slipway_stream_accepted_total[{EVERY}]))", "accepted"),
                Query(f"sum(rate(slipway_stream_known_total[{EVERY}]))", "known"),
                Query(f"sum(rate(slipway_stream_redelivered_total[{EVERY}]))", "redelivered"),
                Query(f"sum(rate(slipway_stream_late_total[{EVERY}]))", "late"),
            ),
            lines(
                "Set aside, by reason",
                "unknown_item: the catalogue is old, or the data changed.",
                "cps",
                Query(f"sum by (reason) (rate(slipway_stream_rejected_total[{EVERY}]))", "{{reason}}"),
            ),
            lines(
                "Lag",
                "A click is meant to be a feature within a second.",
                SECONDS,
                Query("stream:slipway_stream_lag_seconds:p95_5m", "p95"),
                Query("slipway_stream_last_lag_seconds", "last batch"),
                top=10,
            ),
            lines(
                "Seconds of a commit",
                "Lake and online store together.",
                SECONDS,
                Query(
                    f"histogram_quantile(0.5, sum by (le) (rate(slipway_stream_commit_seconds_bucket[{EVERY}])))", "p50"
                ),
                Query(
                    f"histogram_quantile(0.95, sum by (le) (rate(slipway_stream_commit_seconds_bucket[{EVERY}])))",
                    "p95",
                ),
            ),
            lines(
                "Messages in a commit",
                "Mean. At 10,000 the consumer is behind.",
                NUMBER,
                Query(
                    f"sum(rate(slipway_stream_batch_messages_sum[{EVERY}]))"
                    f" / sum(rate(slipway_stream_batch_messages_count[{EVERY}]))",
                    "mean",
                ),
            ),
            lines(
                "Commits tried again, users written",
                "The first should be 0.",
                "cps",
                Query(f"sum(rate(slipway_stream_commit_failures_total[{EVERY}]))", "tried again"),
                Query(f"sum(rate(slipway_stream_online_users_total[{EVERY}]))", "users"),
            ),
        )
        .row(
            "Broker and features",
            lines(
                "Waiting in Kafka",
                "By topic.",
                NUMBER,
                Query('sum by (topic) (kafka_consumergroup_lag{consumergroup="slipway"})', "{{topic}}"),
            ),
            lines(
                "Age of features",
                "Since the last materialisation of each view.",
                SECONDS,
                Query("max by (feature_view) (feast_feature_freshness_seconds)", "{{feature_view}}"),
                top=14_400,
            ),
            lines(
                "Look-ups of the feature server",
                "By status.",
                "reqps",
                Query(
                    f"sum by (endpoint, status) (rate(feast_feature_server_request_total[{EVERY}]))",
                    "{{endpoint}} {{status}}",
                ),
            ),
        )
        .build()
    )
