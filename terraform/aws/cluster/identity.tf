# Who may do what in AWS: a role for each service account that needs one, by the names that the manifests use. The
# service account slipway-rollout patches traffic inside the cluster and needs none.

locals {
  bucket = { for key, found in data.aws_s3_bucket.storage : key => found.arn }
  # Objects of an encrypted bucket cannot be read or written without its key.
  decrypt = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [data.aws_kms_alias.storage.target_key_arn] }

  list = { for key, arn in local.bucket : key => { actions = ["s3:ListBucket", "s3:GetBucketLocation"], resources = [arn] } }
  read = { for key, arn in local.bucket : key => { actions = ["s3:GetObject"], resources = ["${arn}/*"] } }
  add  = { for key, arn in local.bucket : key => { actions = ["s3:PutObject", "s3:AbortMultipartUpload"], resources = ["${arn}/*"] } }
  drop = { for key, arn in local.bucket : key => { actions = ["s3:DeleteObject"], resources = ["${arn}/*"] } }

  # Each environment's model servers read packages and nothing else.
  serving = { for namespace in var.serving_namespaces : "serving-${trimprefix(namespace, "slipway-")}" => {
    description = "Model servers in ${namespace}: read packages"
    subjects    = ["system:serviceaccount:${namespace}:slipway-serving"]
    statements  = [local.list.packages, local.read.packages, local.decrypt]
  } }

  workloads = {
    runner = {
      description = "Pipeline steps: read and write the lake, add packages; a package once written is never removed by a run"
      subjects    = ["system:serviceaccount:slipway-training:slipway-runner"]
      statements = [
        local.list.lake, local.read.lake, local.add.lake, local.drop.lake,
        local.list.packages, local.read.packages, local.add.packages, local.decrypt,
      ]
    }
    stream = {
      description = "The stream application: write what was captured to the lake"
      subjects    = ["system:serviceaccount:slipway-streams:slipway-stream"]
      statements  = [local.list.lake, local.read.lake, local.add.lake, local.drop.lake, local.decrypt]
    }
    mlflow = {
      description = "MLflow: its artifacts, which clients reach through it only"
      subjects    = ["system:serviceaccount:slipway-platform:mlflow"]
      statements  = [local.list.mlflow, local.read.mlflow, local.add.mlflow, local.drop.mlflow, local.decrypt]
    }
    feast = {
      description = "Feast: read the lake to materialise it"
      subjects    = ["system:serviceaccount:slipway-platform:feast"]
      statements  = [local.list.lake, local.read.lake, local.decrypt]
    }
  }

  controllers = {
    external-secrets = {
      description = "External Secrets: read this environment's secrets"
      subjects    = ["system:serviceaccount:external-secrets:external-secrets"]
      statements = [
        {
          actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
          resources = [for secret in data.aws_secretsmanager_secret.storage : secret.arn]
        },
        { actions = ["kms:Decrypt"], resources = [data.aws_kms_alias.storage.target_key_arn] },
      ]
    }
    autoscaler = {
      description = "The cluster autoscaler: the size of this cluster's pools"
      subjects    = ["system:serviceaccount:kube-system:cluster-autoscaler"]
      statements = [
        {
          actions = [
            "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
            "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities",
            "autoscaling:DescribeTags", "ec2:DescribeImages", "ec2:DescribeInstanceTypes",
            "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements",
          ]
          resources = ["*"]
          because   = "AWS names no resource for these"
        },
        {
          actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
          resources = ["*"]
          because   = "the groups' names are EKS' own; the condition keeps it to this cluster's"
          if_equal  = { "aws:ResourceTag/k8s.io/cluster-autoscaler/${local.prefix}" = "owned" }
        },
        {
          actions   = ["eks:DescribeNodegroup"]
          resources = ["arn:aws:eks:${var.region}:${data.aws_caller_identity.current.account_id}:nodegroup/${local.prefix}/*/*"]
        },
      ]
    }
    ebs-driver = {
      description      = "The EBS driver of Kubernetes"
      subjects         = ["system:serviceaccount:kube-system:ebs-csi-controller-sa"]
      managed_policies = ["service-role/AmazonEBSCSIDriverPolicy"]
      # The disks are encrypted with our key, which the managed policy does not cover.
      statements = [
        { actions = ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"], resources = [data.aws_kms_alias.storage.target_key_arn] },
        {
          actions   = ["kms:CreateGrant"]
          resources = [data.aws_kms_alias.storage.target_key_arn]
          if_true   = ["kms:GrantIsForAWSResource"]
        },
      ]
    }
    efs-driver = {
      description      = "The EFS driver of Kubernetes"
      subjects         = ["system:serviceaccount:kube-system:efs-csi-controller-sa"]
      managed_policies = ["service-role/AmazonEFSCSIDriverPolicy"]
    }
  }
}

data "aws_caller_identity" "current" {}

module "identity" {
  source       = "../../modules/identity"
  prefix       = local.prefix
  provider_arn = module.cluster.oidc.arn
  issuer       = module.cluster.oidc.issuer
  roles        = merge(local.workloads, local.serving, local.controllers)
}
