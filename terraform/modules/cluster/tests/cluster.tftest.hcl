mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/control-plane" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/secrets" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      identity = [{ oidc = [{ issuer = "https://oidc.eks.us-east-1.amazonaws.com/id/ABC" }] }]
    }
  }
}

variables {
  name               = "slipway-staging-t1"
  kubernetes_version = "1.35"
  subnet_ids         = ["subnet-1", "subnet-2", "subnet-3"]
}

run "closed_encrypted_and_logged" {
  command = apply

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Unless somebody is named, the API server is reached from the VPC only."
  }
  assert {
    condition     = contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets") && aws_kms_key.secrets.enable_key_rotation
    error_message = "Secrets are encrypted with a key of ours that rotates."
  }
  assert {
    condition     = toset(aws_eks_cluster.this.enabled_cluster_log_types) == toset(["api", "audit", "authenticator", "controllerManager", "scheduler"])
    error_message = "All five logs are kept."
  }
  assert {
    condition     = aws_cloudwatch_log_group.control_plane.name == "/aws/eks/slipway-staging-t1/cluster" && aws_cloudwatch_log_group.control_plane.retention_in_days == 90
    error_message = "EKS writes to the group of this very name; ours has an end."
  }
  assert {
    condition     = output.oidc.issuer == "oidc.eks.us-east-1.amazonaws.com/id/ABC"
    error_message = "IAM's condition keys have no https://."
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && aws_eks_cluster.this.upgrade_policy[0].support_type == "STANDARD"
    error_message = "Access by entries, and no extended support that costs six times as much."
  }
}

run "administrators_by_address" {
  command = plan
  variables {
    admin_cidrs = ["203.0.113.7/32"]
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && toset(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == toset(["203.0.113.7/32"])
    error_message = "The named addresses, and nobody else."
  }
}

run "administrators_by_role_and_the_first_addons" {
  command = apply
  variables {
    admin_role_arns = { ops = "arn:aws:iam::123456789012:role/ops" }
    addons = {
      vpc-cni = { configuration = "{\"enableNetworkPolicy\":\"true\"}", needs_nodes = false }
      coredns = { needs_nodes = true }
    }
  }
  assert {
    condition     = aws_eks_access_policy_association.admin["ops"].access_scope[0].type == "cluster"
    error_message = "The role administers the cluster."
  }
  assert {
    condition     = keys(aws_eks_addon.first) == ["vpc-cni"] && !aws_eks_cluster.this.bootstrap_self_managed_addons
    error_message = "What needs nodes waits for them; EKS installs none of its own."
  }
}

run "open_to_the_world" {
  command = plan
  variables {
    admin_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.admin_cidrs]
}

run "no_address" {
  command = plan
  variables {
    admin_cidrs = ["office"]
  }
  expect_failures = [var.admin_cidrs]
}

run "a_version_that_is_none" {
  command = plan
  variables {
    kubernetes_version = "latest"
  }
  expect_failures = [var.kubernetes_version]
}

run "one_subnet" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  expect_failures = [var.subnet_ids]
}

run "a_name_that_roles_cannot_have" {
  command = plan
  variables {
    name = "Slipway_Staging"
  }
  expect_failures = [var.name]
}
