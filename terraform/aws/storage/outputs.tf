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
