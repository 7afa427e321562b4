mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  prefix       = "slipway-staging-t1"
  provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/id/ABC"
  issuer       = "oidc.example.com/id/ABC"
  roles = {
    runner = {
      description = "reads the lake"
      subjects    = ["system:serviceaccount:slipway-training:slipway-runner"]
      statements  = [{ actions = ["s3:GetObject"], resources = ["arn:aws:s3:::slipway-staging-t1-lake/*"] }]
    }
    ebs-driver = {
      description      = "AWS' own policy"
      subjects         = ["system:serviceaccount:kube-system:ebs-csi-controller-sa"]
      managed_policies = ["service-role/AmazonEBSCSIDriverPolicy"]
    }
  }
}

run "a_role_is_one_service_accounts_and_does_what_is_listed" {
  command = apply

  assert {
    condition     = [for condition in data.aws_iam_policy_document.trust["runner"].statement[0].condition : condition.values if condition.variable == "oidc.example.com/id/ABC:sub"] == [tolist(["system:serviceaccount:slipway-training:slipway-runner"])]
    error_message = "Exactly this service account."
  }
  assert {
    condition     = anytrue([for condition in data.aws_iam_policy_document.trust["runner"].statement[0].condition : condition.variable == "oidc.example.com/id/ABC:aud" && contains(condition.values, "sts.amazonaws.com")])
    error_message = "Only a token that was made for AWS."
  }
  assert {
    condition     = keys(aws_iam_role_policy.this) == ["runner"] && keys(aws_iam_role_policy_attachment.this) == ["ebs-driver:service-role/AmazonEBSCSIDriverPolicy"]
    error_message = "Statements where there are some, AWS' policy where it is named."
  }
  assert {
    condition     = aws_iam_role.this["runner"].name == "slipway-staging-t1-runner" && aws_iam_role.this["runner"].max_session_duration == 3600
    error_message = "Credentials last an hour."
  }
}

run "an_action_with_a_wildcard" {
  command = plan
  variables {
    roles = { runner = { description = "", subjects = ["s"], statements = [{ actions = ["s3:*"], resources = ["arn:aws:s3:::b"] }] } }
  }
  expect_failures = [var.roles]
}

run "every_resource_without_a_reason" {
  command = plan
  variables {
    roles = { runner = { description = "", subjects = ["s"], statements = [{ actions = ["s3:GetObject"], resources = ["*"] }] } }
  }
  expect_failures = [var.roles]
}

run "every_resource_with_a_reason" {
  command = plan
  variables {
    roles = { ci = { description = "", subjects = ["s"], statements = [{ actions = ["ecr:GetAuthorizationToken"], resources = ["*"], because = "a token is the registry's" }] } }
  }
}

run "a_subject_with_a_wildcard" {
  command = plan
  variables {
    roles = { ci = { description = "", subjects = ["repo:owner/name:*"] } }
  }
  expect_failures = [var.roles]
}

run "nobody" {
  command = plan
  variables {
    roles = { ci = { description = "", subjects = [] } }
  }
  expect_failures = [var.roles]
}

run "a_name_longer_than_iams" {
  command = plan
  variables {
    prefix = "slipway-production-a-suffix-that-is-longer-than-a-suffix-may-be"
  }
  expect_failures = [var.roles]
}

run "an_issuer_with_its_scheme" {
  command = plan
  variables {
    issuer = "https://oidc.example.com/id/ABC"
  }
  expect_failures = [var.issuer]
}
