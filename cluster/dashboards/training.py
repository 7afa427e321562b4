"""Runs, Ray and GPUs. Knows Ray's, KubeRay's and kube-state-metrics' names."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.dashboards.panels import BYTES, EVERY, NUMBER, Board, Query, figure, lines, rows

HERE = 'namespace="slipway-training"'


def board() -> Dashboard:
    return (
        Board("training", "training", "What trains, on which nodes, how busy their CPUs and GPUs are, and what waits.")
        .choose("cluster", "Ray cluster", "label_values(ray_node_cpu_count, cluster)")
        .row(
            "Now",
            figure(
                "Jobs running",
                "RayJobs.",
                NUMBER,
                Query(f'sum(kuberay_job_deployment_status{{{HERE},deployment_status="Running"}})'),
            ),
            figure(
                "Jobs failed",
                "Until they are deleted.",
                NUMBER,
                Query(f'sum(kuberay_job_deployment_status{{{HERE},deployment_status="Failed"}})'),
                top=1,
            ),
            figure("Ray nodes", "Active.", NUMBER, Query('sum(ray_cluster_active_nodes{cluster=~"$cluster"})')),
            figure("GPUs", "Of active nodes.", NUMBER, Query('sum(ray_node_gpus_available{cluster=~"$cluster"})')),
            figure(
                "GPU nodes ready",
                "Of the pool.",
                NUMBER,
                Query(
                    'sum(kube_node_status_condition{condition="Ready",status="true"}'
                    ' and on (node) kube_node_status_capacity{resource="nvidia_com_gpu"} > 0)'
                ),
            ),
            figure(
                "Pods that wait",
                "Pending in slipway-training.",
                NUMBER,
                Query(f'sum(kube_pod_status_phase{{{HERE},phase="Pending"}})'),
            ),
        )
        .row(
            "Ray",
            lines(
                "CPU",
                "Percent of each node.",
                "percent",
                Query('ray_node_cpu_utilization{cluster=~"$cluster"}', "{{instance}}"),
            ),
            lines(
                "Memory",
                "Share of each node's.",
                "percentunit",
                Query(
                    'ray_node_mem_used{cluster=~"$cluster"} / ray_node_mem_total{cluster=~"$cluster"}', "{{instance}}"
                ),
                top=0.95,
            ),
            lines(
                "Object store",
                "Bytes by location; spilled ones are on disk.",
                BYTES,
                Query('sum by (Location) (ray_object_store_memory{cluster=~"$cluster"})', "{{Location}}"),
            ),
            lines(
                "Tasks",
                "By state.",
                NUMBER,
                Query('sum by (State) (ray_tasks{cluster=~"$cluster"})', "{{State}}"),
                width=12,
            ),
            lines(
                "Nodes",
                "Active, failed and asked for.",
                NUMBER,
                Query('sum by (node_type) (ray_cluster_active_nodes{cluster=~"$cluster"})', "active {{node_type}}"),
                Query('sum by (node_type) (ray_cluster_failed_nodes{cluster=~"$cluster"})', "failed {{node_type}}"),
                Query('sum by (node_type) (ray_cluster_pending_nodes{cluster=~"$cluster"})', "pending {{node_type}}"),
                width=12,
            ),
        )
        .row(
            "GPUs",
            lines(
                "Busy",
                "Percent of time in which a kernel ran: says that a GPU works, not how well.",
                "percent",
                Query('ray_node_gpus_utilization{cluster=~"$cluster"}', "{{instance}} {{GpuIndex}}"),
            ),
            lines(
                "Memory",
                "Used, MiB.",
                "decmbytes",
                Query('ray_node_gram_used{cluster=~"$cluster"}', "{{instance}} {{GpuIndex}}"),
            ),
            lines(
                "Temperature",
                "Above 85 °C a GPU slows down.",
                "celsius",
                Query('ray_node_gpu_temperature_celsius{cluster=~"$cluster"}', "{{instance}} {{GpuIndex}}"),
                top=85,
            ),
        )
        .row(
            "Runs",
            lines(
                "Started by the trigger",
                "Runs of the last day by reason and outcome, and what waits for its window.",
                NUMBER,
                Query("sum by (reason, outcome) (increase(slipway_trigger_runs_total[1d]))", "{{reason}} {{outcome}}"),
                Query("sum(slipway_trigger_waiting)", "waiting"),
            ),
            lines(
                "Asked of the trigger",
                "Requests by path and status.",
                "reqps",
                Query(f"sum by (path, code) (rate(slipway_trigger_requests_total[{EVERY}]))", "{{path}} {{code}}"),
            ),
            lines(
                "Pods",
                "Of pipeline steps and Ray, by phase.",
                NUMBER,
                Query(f"sum by (phase) (kube_pod_status_phase{{{HERE}}})", "{{phase}}"),
                width=8,
            ),
            rows(
                "Jobs",
                "RayJobs and how they stand.",
                Query(f"kuberay_job_deployment_status{{{HERE}}} == 1"),
                width=24,
            ),
        )
        .build()
    )
