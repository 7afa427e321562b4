# Once per account: the registry that all environments pull from, and the role with which CI pushes to it.

provider "aws" {
  region = var.region
  default_tags {
    tags = {
      Project     = "slipway"
      Environment = "shared"
      Suffix      = var.suffix
      ManagedBy   = "terraform"
    }
  }
}

module "registry" {
  source = "../../modules/registry"
  images = ["pipeline", "training", "serving", "stream"]
}

# AWS knows GitHub's certificate authority, so no thumbprint is needed.
resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

module "identity" {
  source       = "../../modules/identity"
  prefix       = "slipway-${var.suffix}"
  provider_arn = aws_iam_openid_connect_provider.github.arn
  issuer       = "token.actions.githubusercontent.com"
  roles = {
    ci = {
      description = "CI pushes images; it reaches no cluster, no lake and no state"
      subjects    = [for ref in var.github_refs : "repo:${var.github_repository}:ref:${ref}"]
      statements = [
        {
          actions   = ["ecr:GetAuthorizationToken"]
          resources = ["*"]
          because   = "a token is for the whole registry; what it may do is said below"
        },
        {
          actions = [
            "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
            "ecr:DescribeImageScanFindings", "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage",
            "ecr:UploadLayerPart",
          ]
          resources = module.registry.arns
        },
      ]
    }
  }
}
