output "buckets" {
  description = "lake, mlflow, packages, logs to their names."
  value       = module.storage.buckets
}

output "settings" {
  description = "What the ConfigMap slipway-settings says of the store."
  value = {
    SLIPWAY_STORE_URI = "s3://${module.storage.buckets["packages"]}/slipway"
  }
}

output "file_system_id" {
  description = "The file system that the EFS driver's StorageClass names."
  value       = module.storage.file_system_id
}

output "volume_ids" {
  description = "Disk to the volumeHandle of its PersistentVolume."
  value       = module.storage.volume_ids
}

output "secret_names" {
  description = "Where `aws secretsmanager put-secret-value` puts what External Secrets reads."
  value       = module.storage.secret_names
}

output "site" {
  description = "Lines of manifests/site/site.yaml: terraform output -raw site. The rest of them are yours to choose."
  value = yamlencode({
    lake          = module.storage.buckets["lake"]
    mlflow        = module.storage.buckets["mlflow"]
    packages      = module.storage.buckets["packages"]
    region        = var.region
    s3-host       = "s3.${var.region}.amazonaws.com"
    name          = local.prefix
    environment   = var.environment
    suffix        = var.suffix
    account       = data.aws_caller_identity.current.account_id
    postgres-disk = module.storage.volume_ids["postgres"]
    postgres-zone = local.postgres_zone
  })
}
