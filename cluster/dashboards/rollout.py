"""A canary beside what it would replace. Knows the figures that the judge reads, and not the judge's state.

The phase of a rollout is an annotation on its InferenceService and in no metric: `slipway rollout status` shows it.
"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.panels import NUMBER, RATE, SECONDS, SHARE, Board, Query, bars, lines, rows

HERE = 'namespace=~"$namespace",model=~"$model"'
BOTH = f'{HERE},revision=~"$revision"'
ASKED = 'traffic="live",route=~"v1|v2|grpc"'


def board() -> Dashboard:
    return (
        Board(
            "rollout", "rollout", "Two revisions of one model: shares, errors, seconds, fallbacks, live and mirrored."
        )
        .choose("namespace", "Environment", "label_values(slipway_model_info, namespace)")
        .choose("model", "Model", 'label_values(slipway_model_info{namespace=~"$namespace"}, model)')
        .choose("revision", "Revision", f"label_values(slipway_model_info{{{HERE}}}, revision)")
        .row(
            "Traffic",
            bars(
                "Share now",
                "What canaryTrafficPercent became in the last half hour.",
                SHARE,
                Query(f"revision:slipway_traffic:share30m{{{BOTH}}}", "{{revision}}"),
            ),
            lines(
                "Share",
                "Each step is a stage; flat for 13 hours is an alert.",
                SHARE,
                Query(f"revision:slipway_traffic:share30m{{{BOTH}}}", "{{revision}}"),
                width=16,
            ),
        )
        .row(
            "Canary and stable",
            lines(
                "Errors",
                "Share of requests, live and mirrored.",
                SHARE,
                Query(f"revision:slipway_errors:ratio_rate5m{{{BOTH}}}", "{{revision}} {{traffic}}"),
            ),
            lines(
                "p95 seconds",
                "Live and mirrored.",
                SECONDS,
                Query(f"revision:slipway_request_seconds:p95_5m{{{BOTH}}}", "{{revision}} {{traffic}}"),
            ),
            lines(
                "Fallbacks",
                "Share of answers that are not the whole model's own.",
                SHARE,
                Query(f"revision:slipway_fallbacks:ratio_rate5m{{{BOTH}}}", "{{revision}} {{traffic}}"),
            ),
            lines(
                "Requests",
                "Per second, live and mirrored.",
                RATE,
                Query(f"revision:slipway_requests:rate5m{{{BOTH}}}", "{{revision}} {{traffic}}"),
            ),
            lines(
                "p95 against the others",
                "How many times the fastest live revision's p95. Above 1.2 for long, the judge will say so.",
                NUMBER,
                Query(
                    f'revision:slipway_request_seconds:p95_5m{{{BOTH},traffic="live"}}'
                    " / on (namespace, model) group_left ()"
                    f' min by (namespace, model) (revision:slipway_request_seconds:p95_5m{{{HERE},traffic="live"}})',
                    "{{revision}}",
                ),
            ),
            lines(
                "Missing stages",
                "Share of answers without a stage.",
                SHARE,
                Query(
                    f"sum by (revision, stage) (revision:slipway_stage_fallbacks:ratio_rate5m{{{BOTH}}})",
                    "{{revision}} {{stage}}",
                ),
            ),
        )
        .row(
            "Evidence",
            lines(
                "Answers since the range began",
                "A stage wants a number of them before it is judged.",
                NUMBER,
                Query(
                    f"sum by (revision) (increase(slipway_requests_total{{{BOTH},{ASKED}}}[$__range]))",
                    "{{revision}}",
                ),
                width=12,
            ),
            rows("Packages", "Which version a revision serves.", Query(f"slipway_model_info{{{BOTH}}}"), width=12),
        )
        .build()
    )
