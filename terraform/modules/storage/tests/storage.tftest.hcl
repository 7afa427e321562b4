# Plans only: what was applied could not be removed after the test (prevent_destroy), which is the module's very point.
mock_provider "aws" {
  override_during = plan
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/storage", key_id = "storage" }
  }
}

variables {
  prefix  = "slipway-staging-t1"
  secrets = ["grafana-admin"]
  volumes = { postgres = { zone = "us-east-1a", size_gb = 50 } }
}

run "buckets_are_private_encrypted_versioned_and_kept" {
  command = plan

  assert {
    condition     = join(" ", [for key, bucket in aws_s3_bucket.this : bucket.bucket]) == "slipway-staging-t1-lake slipway-staging-t1-logs slipway-staging-t1-mlflow slipway-staging-t1-packages"
    error_message = "The names that the manifests know."
  }
  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy])
    error_message = "A bucket with objects cannot be destroyed."
  }
  assert {
    condition     = length(aws_s3_bucket_public_access_block.this) == 4 && alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "No bucket is public."
  }
  assert {
    condition     = alltrue([for versioning in aws_s3_bucket_versioning.this : versioning.versioning_configuration[0].status == "Enabled"]) && length(aws_s3_bucket_versioning.this) == 4
    error_message = "What was overwritten can be had back."
  }
  assert {
    condition = alltrue([for key, encryption in aws_s3_bucket_server_side_encryption_configuration.this :
    one(encryption.rule).apply_server_side_encryption_by_default[0].sse_algorithm == (key == "logs" ? "AES256" : "aws:kms")])
    error_message = "Data with our key; logs with S3's own, or S3 could not deliver them."
  }
  assert {
    condition = alltrue([for key in ["lake", "mlflow", "packages", "logs"] :
      data.aws_iam_policy_document.bucket[key].statement[0].effect == "Deny" &&
    one(data.aws_iam_policy_document.bucket[key].statement[0].condition).variable == "aws:SecureTransport"])
    error_message = "Nothing is read or written without TLS."
  }
  assert {
    condition     = toset(keys(aws_s3_bucket_logging.this)) == toset(["lake", "mlflow", "packages"])
    error_message = "Who read what is logged; the log's own log would never end."
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["logs"].rule[0].expiration[0].days == 180 && length(aws_s3_bucket_lifecycle_configuration.this["lake"].rule[0].expiration) == 0
    error_message = "Logs end, data does not."
  }
}

run "files_disks_and_secrets_are_encrypted_with_our_key" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key rotates, and a deletion can be taken back for a month."
  }
  assert {
    condition     = aws_efs_file_system.this.encrypted && aws_efs_backup_policy.this[0].backup_policy[0].status == "ENABLED"
    error_message = "The file system is encrypted and backed up."
  }
  assert {
    condition     = aws_ebs_volume.this["postgres"].encrypted && aws_ebs_volume.this["postgres"].final_snapshot
    error_message = "The disk is encrypted, and leaves a snapshot."
  }
  assert {
    condition     = aws_secretsmanager_secret.this["grafana-admin"].name == "slipway-staging-t1/grafana-admin"
    error_message = "A place for the secret; no value passes through here."
  }
}

run "a_prefix_that_no_bucket_may_have" {
  command = plan
  variables {
    prefix = "Slipway_Staging"
  }
  expect_failures = [var.prefix]
}

run "a_disk_of_nothing" {
  command = plan
  variables {
    volumes = { postgres = { zone = "us-east-1a", size_gb = 0 } }
  }
  expect_failures = [var.volumes]
}
