# One environment's compute: network, cluster, node pools, and the roles of its service accounts. All of it may be
# destroyed at any time; what must stay is looked up by name in the storage of the same environment and suffix.

locals {
  prefix = "slipway-${var.environment}-${var.suffix}"
  tags = {
    Project     = "slipway"
    Environment = var.environment
    Suffix      = var.suffix
    ManagedBy   = "terraform"
  }
  zones = slice(sort(data.aws_availability_zones.available.names), 0, 3)
}

provider "aws" {
  region = var.region
  default_tags {
    tags = local.tags
  }
}

data "aws_availability_zones" "available" {
  state = "available"

  lifecycle {
    postcondition {
      condition     = length(self.names) >= 3
      error_message = "This region has fewer than three zones: choose another by -var region=…"
    }
  }
}

module "network" {
  source              = "../../modules/network"
  name                = local.prefix
  cidr                = var.cidr
  zones               = local.zones
  nat_in_each_zone    = var.nat_in_each_zone
  flow_log_bucket_arn = data.aws_s3_bucket.storage["logs"].arn
}

module "cluster" {
  source             = "../../modules/cluster"
  name               = local.prefix
  kubernetes_version = var.kubernetes_version
  subnet_ids         = module.network.private_subnet_ids
  admin_cidrs        = var.admin_cidrs
  admin_role_arns    = var.admin_role_arns
  addons             = var.addons
}

module "node_pools" {
  source       = "../../modules/node_pools"
  cluster_name = module.cluster.name
  subnet_ids   = module.network.private_subnet_ids
  pools        = var.pools
  gpu_runs     = var.gpu_runs
  addons       = var.addons
  addon_role_arns = {
    aws-ebs-csi-driver = module.identity.role_arns["ebs-driver"]
    aws-efs-csi-driver = module.identity.role_arns["efs-driver"]
  }
  tags = local.tags
}
