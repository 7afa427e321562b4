# The storage: what must outlive every cluster. Knows buckets, a file system, disks and secrets' places; no compute.

locals {
  # Bucket to what happens to its objects with age (days). Every bucket keeps old versions for a while: a lake's table or
  # a model package that somebody overwrote can be had back.
  buckets = {
    lake     = { tier_after = 30, expire_after = null, old_versions = 30 }
    mlflow   = { tier_after = 90, expire_after = null, old_versions = 30 }
    packages = { tier_after = 90, expire_after = null, old_versions = 90 }
    logs     = { tier_after = null, expire_after = 180, old_versions = 7 }
  }
  logged = { for key, bucket in aws_s3_bucket.this : key => bucket if key != "logs" }
}

data "aws_caller_identity" "current" {}

resource "aws_kms_key" "this" {
  description             = "Objects, files, disks and secrets of ${var.prefix}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  lifecycle {
    # Without its key, all of it is noise.
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.prefix}/storage"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_s3_bucket" "this" {
  for_each      = local.buckets
  bucket        = "${var.prefix}-${each.key}"
  force_destroy = false
  tags          = { Name = "${var.prefix}-${each.key}" }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = aws_s3_bucket.this
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    # S3's own log delivery writes to buckets with S3's own key only.
    bucket_key_enabled = each.key != "logs"
    apply_server_side_encryption_by_default {
      sse_algorithm     = each.key == "logs" ? "AES256" : "aws:kms"
      kms_master_key_id = each.key == "logs" ? null : aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.this[each.key].id

  rule {
    id     = "age"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    noncurrent_version_expiration {
      noncurrent_days = each.value.old_versions
    }
    dynamic "transition" {
      for_each = each.value.tier_after == null ? [] : [each.value.tier_after]
      content {
        days          = transition.value
        storage_class = "INTELLIGENT_TIERING"
      }
    }
    dynamic "expiration" {
      for_each = each.value.expire_after == null ? [] : [each.value.expire_after]
      content {
        days = expiration.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  for_each = local.buckets

  statement {
    sid       = "OnlyTLS"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = ["arn:aws:s3:::${var.prefix}-${each.key}", "arn:aws:s3:::${var.prefix}-${each.key}/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # S3 itself writes who read what, into a folder for each bucket.
  dynamic "statement" {
    for_each = each.key == "logs" ? [for key in keys(local.buckets) : key if key != "logs"] : []
    content {
      sid       = "AccessLogs${title(statement.value)}"
      actions   = ["s3:PutObject"]
      resources = ["arn:aws:s3:::${var.prefix}-logs/access/${statement.value}/*"]
      principals {
        type        = "Service"
        identifiers = ["logging.s3.amazonaws.com"]
      }
      condition {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = ["arn:aws:s3:::${var.prefix}-${statement.value}"]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? ["FlowLogs"] : []
    content {
      sid       = statement.value
      actions   = ["s3:PutObject"]
      resources = ["arn:aws:s3:::${var.prefix}-logs/AWSLogs/${data.aws_caller_identity.current.account_id}/*"]
      principals {
        type        = "Service"
        identifiers = ["delivery.logs.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [data.aws_caller_identity.current.account_id]
      }
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? ["FlowLogsAsk"] : []
    content {
      sid       = statement.value
      actions   = ["s3:GetBucketAcl"]
      resources = ["arn:aws:s3:::${var.prefix}-logs"]
      principals {
        type        = "Service"
        identifiers = ["delivery.logs.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [data.aws_caller_identity.current.account_id]
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  policy   = data.aws_iam_policy_document.bucket[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_logging" "this" {
  for_each      = local.logged
  bucket        = each.value.id
  target_bucket = aws_s3_bucket.this["logs"].id
  target_prefix = "access/${each.key}/"

  depends_on = [aws_s3_bucket_policy.this]
}

# Checkpoints and whatever several pods write at once. The door into a network (mount targets) is the cluster's.
resource "aws_efs_file_system" "this" {
  creation_token  = var.prefix
  encrypted       = true
  kms_key_id      = aws_kms_key.this.arn
  throughput_mode = "elastic"
  tags            = { Name = var.prefix }

  lifecycle_policy {
    transition_to_ia = "AFTER_30_DAYS"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_efs_backup_policy" "this" {
  count          = var.back_up_files ? 1 : 0
  file_system_id = aws_efs_file_system.this.id
  backup_policy {
    status = "ENABLED"
  }
}

# Disks of what keeps its data on one disk (PostgreSQL). A claim in the cluster names its id, so the next cluster finds it.
resource "aws_ebs_volume" "this" {
  for_each          = var.volumes
  availability_zone = each.value.zone
  size              = each.value.size_gb
  type              = "gp3"
  encrypted         = true
  kms_key_id        = aws_kms_key.this.arn
  final_snapshot    = true
  tags              = { Name = "${var.prefix}-${each.key}" }

  lifecycle {
    prevent_destroy = true
  }
}

# Places for secrets. Values come from `aws secretsmanager put-secret-value` and never pass through a state.
resource "aws_secretsmanager_secret" "this" {
  for_each                = var.secrets
  name                    = "${var.prefix}/${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}
