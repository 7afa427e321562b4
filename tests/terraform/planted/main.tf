# One mistake for each rule of cluster/policies.py, each named after what is wrong with it. Never applied.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

# Nothing is asked: a plan of resources alone needs no account.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

locals {
  tags = { Project = "slipway", Environment = "staging", Suffix = "t1", ManagedBy = "terraform" }
}

# A bucket with which nobody did anything: public, plain, unencrypted, unversioned.
resource "aws_s3_bucket" "bare" {
  bucket        = "bare"
  force_destroy = true
  tags          = local.tags
}

# The same, done well, but for one flag and everybody in its policy.
resource "aws_s3_bucket" "ajar" {
  for_each = toset(["lake"])
  bucket   = "ajar-${each.key}"
  tags     = local.tags
}

resource "aws_s3_bucket_public_access_block" "ajar" {
  for_each                = aws_s3_bucket.ajar
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = false
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "ajar" {
  for_each = aws_s3_bucket.ajar
  bucket   = each.value.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

resource "aws_s3_bucket_versioning" "ajar" {
  for_each = aws_s3_bucket.ajar
  bucket   = each.value.id
  versioning_configuration {
    status = "Suspended"
  }
}

resource "aws_s3_bucket_policy" "ajar" {
  for_each = aws_s3_bucket.ajar
  bucket   = each.value.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = "*", Action = "s3:GetObject", Resource = "arn:aws:s3:::ajar-lake/*" }]
  })
}

resource "aws_ebs_volume" "plain" {
  availability_zone = "eu-central-1a"
  size              = 10
  tags              = local.tags
}

resource "aws_efs_file_system" "plain" {
  encrypted = false
  tags      = local.tags
}

resource "aws_kms_key" "hasty" {
  deletion_window_in_days = 7
  tags                    = local.tags
}

resource "aws_secretsmanager_secret" "hasty" {
  recovery_window_in_days = 0
  tags                    = local.tags
}

resource "aws_ecr_repository" "movable" {
  name                 = "movable"
  image_tag_mutability = "MUTABLE"
  force_delete         = true
  tags                 = local.tags
}

resource "aws_iam_role" "anybody" {
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = { StringLike = { "token.actions.githubusercontent.com:sub" = "repo:owner/name:*" } }
      },
      { Effect = "Allow", Principal = { AWS = "*" }, Action = "sts:AssumeRole" },
    ]
  })
  tags = local.tags
}

resource "aws_iam_role_policy" "anything" {
  role = aws_iam_role.anybody.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "s3:*", Resource = "arn:aws:s3:::lake/*" },
      { Effect = "Allow", Action = ["s3:GetObject", "ecr:GetAuthorizationToken"], Resource = "*" },
    ]
  })
}

# Its ARN is known only after an apply, and so is its JSON; its actions are known now.
data "aws_iam_policy_document" "later" {
  statement {
    actions   = ["kms:*"]
    resources = [aws_kms_key.hasty.arn]
  }
}

resource "aws_iam_policy" "later" {
  policy = data.aws_iam_policy_document.later.json
  tags   = local.tags
}

resource "aws_security_group" "open" {
  ingress {
    from_port   = 22
    to_port     = 22
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
  tags = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "open" {
  security_group_id = aws_security_group.open.id
  ip_protocol       = "-1"
  cidr_ipv6         = "::/0"
  tags              = local.tags
}

resource "aws_eks_cluster" "open" {
  name     = "open"
  role_arn = "arn:aws:iam::123456789012:role/cluster"
  vpc_config {
    subnet_ids              = ["subnet-1", "subnet-2"]
    endpoint_private_access = true
    endpoint_public_access  = true
  }
  tags = local.tags
}

resource "aws_launch_template" "talkative" {
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 100
    }
  }
  tags = local.tags
}

resource "aws_eks_node_group" "untainted" {
  cluster_name  = aws_eks_cluster.open.name
  node_role_arn = "arn:aws:iam::123456789012:role/node"
  subnet_ids    = ["subnet-1"]
  labels        = { "slipway.dev/pool" = "gpu" }
  scaling_config {
    min_size     = 0
    max_size     = 1
    desired_size = 0
  }
  tags = local.tags
}

resource "aws_vpc" "nobodys" {
  cidr_block = "10.0.0.0/16"
  tags       = { Project = "slipway" }
}
