mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/node" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

variables {
  cluster_name = "slipway-staging-t1"
  subnet_ids   = ["subnet-1", "subnet-2", "subnet-3"]
  gpu_runs     = true
  pools = {
    platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 2, max_size = 4 }
    gpu      = { kind = "gpu", instance_types = ["g5.xlarge"], min_size = 0, max_size = 1, spot = true }
  }
  tags = { Environment = "staging" }
}

run "workloads_choose_by_label_and_only_gpu_runs_sit_on_gpus" {
  command = apply

  assert {
    condition     = aws_eks_node_group.this["platform"].labels["slipway.dev/pool"] == "cpu" && aws_eks_node_group.this["gpu"].labels["slipway.dev/pool"] == "gpu"
    error_message = "The label is the pool's kind, which the manifests select."
  }
  assert {
    condition     = one(aws_eks_node_group.this["gpu"].taint).key == "nvidia.com/gpu" && one(aws_eks_node_group.this["gpu"].taint).value == "present" && one(aws_eks_node_group.this["gpu"].taint).effect == "NO_SCHEDULE"
    error_message = "nvidia.com/gpu=present:NoSchedule, as the manifests tolerate it."
  }
  assert {
    condition     = length(aws_eks_node_group.this["platform"].taint) == 0
    error_message = "CPU nodes take everybody."
  }
  assert {
    condition     = aws_eks_node_group.this["gpu"].ami_type == "AL2023_x86_64_NVIDIA" && aws_eks_node_group.this["gpu"].capacity_type == "SPOT"
    error_message = "The image has NVIDIA's driver."
  }
  assert {
    condition     = aws_eks_node_group.this["gpu"].tags["k8s.io/cluster-autoscaler/slipway-staging-t1"] == "owned" && aws_eks_node_group.this["gpu"].tags["k8s.io/cluster-autoscaler/node-template/taint/nvidia.com/gpu"] == "present:NoSchedule"
    error_message = "The autoscaler finds the pool, and knows the taint of a node that is not there yet."
  }
  assert {
    condition     = alltrue([for template in aws_launch_template.this : template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1])
    error_message = "A pod cannot take its node's credentials."
  }
  assert {
    condition     = alltrue([for template in aws_launch_template.this : template.block_device_mappings[0].ebs[0].encrypted == "true"])
    error_message = "Disks are encrypted."
  }
  assert {
    condition     = output.pools["gpu"].max == 1 && output.pools["gpu"].kind == "gpu"
    error_message = "What others may count on."
  }
}

run "addons_that_need_nodes_come_after_them" {
  command = plan
  variables {
    addons = {
      vpc-cni            = { needs_nodes = false }
      aws-ebs-csi-driver = { needs_nodes = true }
    }
    addon_role_arns = { aws-ebs-csi-driver = "arn:aws:iam::123456789012:role/ebs" }
  }
  assert {
    condition     = keys(aws_eks_addon.after_nodes) == ["aws-ebs-csi-driver"] && aws_eks_addon.after_nodes["aws-ebs-csi-driver"].service_account_role_arn == "arn:aws:iam::123456789012:role/ebs"
    error_message = "With the role of its service account."
  }
}

run "gpu_runs_without_a_gpu_pool" {
  command = plan
  variables {
    pools = { platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 2, max_size = 4 } }
  }
  expect_failures = [var.gpu_runs]
}

run "gpu_runs_with_a_gpu_pool_of_size_0" {
  command = plan
  variables {
    pools = {
      platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 2, max_size = 4 }
      gpu      = { kind = "gpu", instance_types = ["g5.xlarge"], min_size = 0, max_size = 0 }
    }
  }
  expect_failures = [var.pools]
}

run "no_gpu_runs_and_no_gpu_pool" {
  command = plan
  variables {
    gpu_runs = false
    pools    = { platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 2, max_size = 4 } }
  }
}

run "nowhere_for_the_controllers" {
  command = plan
  variables {
    gpu_runs = false
    pools    = { platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 0, max_size = 4 } }
  }
  expect_failures = [var.pools]
}

run "more_at_least_than_at_most" {
  command = plan
  variables {
    gpu_runs = false
    pools    = { platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 5, max_size = 4 } }
  }
  expect_failures = [var.pools]
}

run "a_kind_that_nobody_selects" {
  command = plan
  variables {
    gpu_runs = false
    pools = {
      platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 1, max_size = 4 }
      fast     = { kind = "tpu", instance_types = ["m6i.xlarge"], min_size = 0, max_size = 4 }
    }
  }
  expect_failures = [var.pools]
}

run "a_disk_that_no_cuda_image_fits_on" {
  command = plan
  variables {
    pools = {
      platform = { kind = "cpu", instance_types = ["m6i.xlarge"], min_size = 1, max_size = 4 }
      gpu      = { kind = "gpu", instance_types = ["g5.xlarge"], min_size = 0, max_size = 1, disk_gb = 50 }
    }
  }
  expect_failures = [var.pools]
}

run "no_instance_type" {
  command = plan
  variables {
    gpu_runs = false
    pools    = { platform = { kind = "cpu", instance_types = [], min_size = 1, max_size = 4 } }
  }
  expect_failures = [var.pools]
}
