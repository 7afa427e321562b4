"""What people get: rate, errors and duration of each revision, stage by stage. Knows the model server's metrics."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.panels import EVERY, NUMBER, RATE, SECONDS, SHARE, Board, Query, figure, lines, rows

HERE = 'namespace=~"$namespace",model=~"$model"'
LIVE = f'{HERE},traffic="live"'
ASKED = f'{LIVE},route=~"v1|v2|grpc"'


def board() -> Dashboard:
    return (
        Board(
            "serving",
            "serving",
            "Requests, errors and seconds of each revision; what a stage costs and when it is missing.",
        )
        .choose("namespace", "Environment", "label_values(slipway_model_info, namespace)")
        .choose("model", "Model", 'label_values(slipway_model_info{namespace=~"$namespace"}, model)')
        .row(
            "Promises",
            figure(
                "Errors, 1 h",
                "The promise is 0.1 % of 30 days.",
                SHARE,
                Query(f"max(service:slipway_errors:ratio_rate1h{{{HERE}}})"),
                top=0.001,
            ),
            figure(
                "Slower than 250 ms, 1 h",
                "The promise is 1 % of 30 days.",
                SHARE,
                Query(f"max(service:slipway_slow:ratio_rate1h{{{HERE}}})"),
                top=0.01,
            ),
            figure(
                "Requests", "Live answers per second.", RATE, Query(f"sum(revision:slipway_requests:rate5m{{{LIVE}}})")
            ),
            figure(
                "p99",
                "Of the slowest revision.",
                SECONDS,
                Query(f"max(revision:slipway_request_seconds:p99_5m{{{LIVE}}})"),
                top=0.25,
            ),
            figure(
                "Fallbacks",
                "Answers that are not the whole model's own.",
                SHARE,
                Query(f"max(revision:slipway_fallbacks:ratio_rate5m{{{LIVE}}})"),
                top=0.01,
            ),
            figure("In progress", "Requests now.", NUMBER, Query(f"sum(slipway_requests_running{{{HERE}}})")),
        )
        .row(
            "Each revision",
            lines(
                "Requests", "Per second.", RATE, Query(f"revision:slipway_requests:rate5m{{{LIVE}}}", "{{revision}}")
            ),
            lines(
                "Errors",
                "Share of live requests; 5xx and what gRPC calls so.",
                SHARE,
                Query(f"revision:slipway_errors:ratio_rate5m{{{LIVE}}}", "{{revision}}"),
                top=0.02,
            ),
            lines(
                "Seconds",
                "p50 and p99, from a request's headers to its answer.",
                SECONDS,
                Query(f"revision:slipway_request_seconds:p50_5m{{{LIVE}}}", "{{revision}} p50"),
                Query(f"revision:slipway_request_seconds:p99_5m{{{LIVE}}}", "{{revision}} p99"),
                top=0.25,
            ),
            lines(
                "By status",
                "400 is the client's, 429 the ingress', 5xx ours.",
                RATE,
                Query(
                    f"sum by (route, status) (rate(slipway_requests_total{{{ASKED}}}[{EVERY}]))", "{{route}} {{status}}"
                ),
            ),
            lines(
                "By fallback",
                "none: all models. session, popularity: a stranger. counts, combination: a model is missing.",
                RATE,
                Query(f"sum by (fallback) (rate(slipway_requests_total{{{ASKED}}}[{EVERY}]))", "{{fallback}}"),
            ),
            lines(
                "Mirrored",
                "Requests whose answers nobody sees, per second.",
                RATE,
                Query(f'revision:slipway_requests:rate5m{{{HERE},traffic="shadow"}}', "{{revision}}"),
            ),
        )
        .row(
            "Stages",
            lines(
                "Mean seconds",
                "Where the time of an answer goes.",
                SECONDS,
                Query(
                    f"sum by (stage) (rate(slipway_stage_seconds_sum{{{HERE}}}[{EVERY}]))"
                    f" / sum by (stage) (rate(slipway_stage_seconds_count{{{HERE}}}[{EVERY}]))",
                    "{{stage}}",
                ),
            ),
            lines(
                "p99 seconds",
                "Beyond its budget a stage is left out.",
                SECONDS,
                Query(f"max by (stage) (revision:slipway_stage_seconds:p99_5m{{{HERE}}})", "{{stage}}"),
            ),
            lines(
                "Missing",
                "Share of answers without a stage: late, failed, or paused after failing.",
                SHARE,
                Query(
                    f"max by (stage, cause) (revision:slipway_stage_fallbacks:ratio_rate5m{{{HERE}}})",
                    "{{stage}} {{cause}}",
                ),
                top=0.01,
            ),
        )
        .row(
            "Processes",
            lines(
                "CPU",
                "Cores of each replica.",
                NUMBER,
                Query(
                    f'rate(process_cpu_seconds_total{{job="slipway-model-server",namespace=~"$namespace"}}[{EVERY}])',
                    "{{pod}}",
                ),
            ),
            lines(
                "Memory",
                "Resident.",
                "bytes",
                Query('process_resident_memory_bytes{job="slipway-model-server",namespace=~"$namespace"}', "{{pod}}"),
            ),
            rows(
                "Served packages",
                "A version leads back to run, code and data.",
                Query(f"slipway_model_info{{{HERE}}}"),
                width=8,
            ),
        )
        .build()
    )
