# The node pools: machines that a cluster's autoscaler adds and removes. Knows labels, taints and sizes; no workload.

data "aws_partition" "current" {}

locals {
  # What each kind is to the scheduler. A GPU is paid for by the hour: only what asks for one may sit on its node.
  kinds = {
    cpu = { image = "AL2023_x86_64_STANDARD", taints = [] }
    gpu = {
      image  = "AL2023_x86_64_NVIDIA"
      taints = [{ key = "nvidia.com/gpu", value = "present", effect = "NO_SCHEDULE" }]
    }
  }
  # What the autoscaler looks for, and what it must know of a pool that has no node yet.
  autoscaler = { for name, pool in var.pools : name => merge(
    {
      "k8s.io/cluster-autoscaler/enabled"                                   = "true"
      "k8s.io/cluster-autoscaler/${var.cluster_name}"                       = "owned"
      "k8s.io/cluster-autoscaler/node-template/label/slipway.dev/pool"      = pool.kind
      "k8s.io/cluster-autoscaler/node-template/resources/ephemeral-storage" = "${pool.disk_gb}G"
    },
    pool.kind == "gpu" ? { "k8s.io/cluster-autoscaler/node-template/taint/nvidia.com/gpu" = "present:NoSchedule" } : {}
  ) }
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name               = "${var.cluster_name}-node"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

# What AWS asks of every node, and nothing else: pods have roles of their own and cannot reach the node's (hop limit).
resource "aws_iam_role_policy_attachment" "node" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"])
  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value}"
}

resource "aws_launch_template" "this" {
  for_each = var.pools
  name     = "${var.cluster_name}-${each.key}"

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # A pod is one hop further than its node, so it cannot take the node's credentials.
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = each.value.disk_gb
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = "${var.cluster_name}-${each.key}" })
  }

  tag_specifications {
    resource_type = "volume"
    tags          = merge(var.tags, { Name = "${var.cluster_name}-${each.key}" })
  }
}

resource "aws_eks_node_group" "this" {
  for_each        = var.pools
  cluster_name    = var.cluster_name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  ami_type        = local.kinds[each.value.kind].image
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  instance_types  = each.value.instance_types
  labels          = { "slipway.dev/pool" = each.value.kind }
  tags            = local.autoscaler[each.key]

  launch_template {
    id      = aws_launch_template.this[each.key].id
    version = aws_launch_template.this[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.min_size
    max_size     = each.value.max_size
    desired_size = each.value.min_size
  }

  update_config {
    max_unavailable = 1
  }

  dynamic "taint" {
    for_each = local.kinds[each.value.kind].taints
    content {
      key    = taint.value.key
      value  = taint.value.value
      effect = taint.value.effect
    }
  }

  lifecycle {
    # The autoscaler's business from the first node on.
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}

# Add-ons whose pods need somewhere to run.
resource "aws_eks_addon" "after_nodes" {
  for_each                 = { for name, addon in var.addons : name => addon if addon.needs_nodes }
  cluster_name             = var.cluster_name
  addon_name               = each.key
  addon_version            = each.value.version
  configuration_values     = each.value.configuration
  service_account_role_arn = lookup(var.addon_role_arns, each.key, null)

  depends_on = [aws_eks_node_group.this]
}
