output "buckets" {
  description = "lake, mlflow, packages, logs to their names."
  value       = { for key, bucket in aws_s3_bucket.this : key => bucket.bucket }
}

output "file_system_id" {
  description = "The shared file system."
  value       = aws_efs_file_system.this.id
}

output "volume_ids" {
  description = "Disk to the id that a PersistentVolume names as its volumeHandle."
  value       = { for key, volume in aws_ebs_volume.this : key => volume.id }
}

output "secret_names" {
  description = "Secret to the name that an ExternalSecret asks for."
  value       = { for key, secret in aws_secretsmanager_secret.this : key => secret.name }
}
