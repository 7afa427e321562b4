# What outlives the compute of one environment. Nothing here is ever destroyed by Terraform (prevent_destroy), and no
# cluster stands in this state, so that `terraform destroy` of a cluster cannot reach it.

locals {
  prefix        = "slipway-${var.environment}-${var.suffix}"
  postgres_zone = sort(data.aws_availability_zones.available.names)[0]
}

provider "aws" {
  region = var.region
  default_tags {
    tags = {
      Project     = "slipway"
      Environment = var.environment
      Suffix      = var.suffix
      ManagedBy   = "terraform"
    }
  }
}

data "aws_caller_identity" "current" {}

data "aws_availability_zones" "available" {
  state = "available"
}

module "storage" {
  source = "../../modules/storage"
  prefix = local.prefix

  back_up_files = var.back_up_files
  volumes = {
    # MLflow's and Feast's records; a disk lives in one zone, and its pod with it.
    postgres = { zone = local.postgres_zone, size_gb = var.postgres_gb }
  }
  # The entries that the manifests' ExternalSecrets ask for.
  secrets = [
    "alertmanager-receivers", "grafana-admin", "mlflow-database", "postgres-credentials", "redis-credentials",
    "slipway-credentials", "slipway-hooks-tls", "slipway-trigger",
  ]
}
