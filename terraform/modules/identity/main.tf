# The identities: one role for each subject of an identity provider, with just what that subject does. Knows no keys:
# a service account's or a workflow's own token is exchanged for credentials that last an hour.

locals {
  attached = merge([for name, role in var.roles : {
    for policy in role.managed_policies : "${name}:${policy}" => { role = name, policy = policy }
  }]...)
}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "trust" {
  for_each = var.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.issuer}:sub"
      values   = each.value.subjects
    }
  }
}

resource "aws_iam_role" "this" {
  for_each             = var.roles
  name                 = "${var.prefix}-${each.key}"
  description          = each.value.description
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 3600
}

data "aws_iam_policy_document" "may" {
  for_each = { for name, role in var.roles : name => role if length(role.statements) > 0 }

  dynamic "statement" {
    for_each = each.value.statements
    content {
      actions   = statement.value.actions
      resources = statement.value.resources
      dynamic "condition" {
        for_each = statement.value.if_equal
        content {
          test     = "StringEquals"
          variable = condition.key
          values   = [condition.value]
        }
      }
      dynamic "condition" {
        for_each = toset(statement.value.if_true)
        content {
          test     = "Bool"
          variable = condition.key
          values   = ["true"]
        }
      }
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = data.aws_iam_policy_document.may
  name     = "may"
  role     = aws_iam_role.this[each.key].id
  policy   = each.value.json
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each   = local.attached
  role       = aws_iam_role.this[each.value.role].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value.policy}"
}
