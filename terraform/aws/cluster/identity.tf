# Who may do what in AWS: a role for each service account that needs one, by the names that the manifests use.

locals {
  bucket = { for key, found in data.aws_s3_bucket.storage : key => found.arn }
  # SLIPWAY_STORE_URI: one prefix of the packages' bucket, with a folder for each kind of object (slipway/lake/lake.py).
  store = "${local.bucket.packages}/slipway"

  get  = ["s3:GetObject"]
  put  = ["s3:PutObject", "s3:AbortMultipartUpload"]
  drop = ["s3:DeleteObject"]
  # Objects of an encrypted bucket cannot be read or written without its key.
  decrypt = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [data.aws_kms_alias.storage.target_key_arn] }
  list = { for key, arn in local.bucket : key => {
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [arn]
  } }

  workloads = {
    runner = {
      description = "Pipeline steps and Ray: data, features, checkpoints; a package is added and never removed by a run"
      subjects = [
        "system:serviceaccount:slipway-training:slipway-runner",
        "system:serviceaccount:slipway-training:slipway-ray",
      ]
      statements = [
        local.list.packages, local.list.lake, local.decrypt,
        # What steps hand to one another goes through Kubeflow's own folder; files from outside lie in `landing`.
        {
          actions   = local.get
          resources = ["${local.store}/*", "${local.bucket.lake}/pipelines/*", "${local.bucket.lake}/landing/*"]
        },
        { actions = local.put, resources = ["${local.store}/*", "${local.bucket.lake}/pipelines/*"] },
        {
          actions = local.drop
          resources = [for folder in ["raw", "processed", "features", "models", "logs", "checkpoints", "rollouts"] :
          "${local.store}/${folder}/*"]
        },
      ]
    }
    stream = {
      description = "The stream application: what was captured becomes rows of the lake"
      subjects    = ["system:serviceaccount:slipway-streams:slipway-stream"]
      statements = [
        local.list.packages, local.decrypt,
        {
          actions   = concat(local.get, local.put, local.drop)
          resources = [for folder in ["raw", "processed", "features", "logs"] : "${local.store}/${folder}/*"]
        },
        { actions = local.get, resources = ["${local.store}/packages/*", "${local.store}/models/*"] },
      ]
    }
    trigger = {
      description = "The trigger: reads the lake's log, keeps its book"
      subjects    = ["system:serviceaccount:slipway-training:slipway-trigger"]
      statements = [
        local.list.packages, local.decrypt,
        { actions = local.get, resources = ["${local.store}/processed/*"] },
        { actions = concat(local.get, local.put, local.drop), resources = ["${local.store}/triggers/*"] },
      ]
    }
    mlflow = {
      description = "MLflow: its artifacts, which clients reach through it only, and the database's backups"
      subjects    = ["system:serviceaccount:slipway-platform:mlflow"]
      statements = [
        local.list.mlflow, local.decrypt,
        { actions = concat(local.get, local.put, local.drop), resources = ["${local.bucket.mlflow}/*"] },
      ]
    }
    feast = {
      description = "Feast: reads feature tables to materialise them"
      subjects    = ["system:serviceaccount:slipway-platform:feast"]
      statements = [
        local.list.packages, local.decrypt,
        { actions = local.get, resources = ["${local.store}/features/*", "${local.store}/processed/*"] },
      ]
    }
  }

  environments = [for namespace in var.serving_namespaces : trimprefix(namespace, "slipway-")]
  # Each environment's model servers read packages and nothing else; so do staging's trials, where a build is put up
  # for a moment under the namespace's default account.
  serving = { for name in local.environments : "serving-${name}" => {
    description = "Model servers of ${name}: read packages"
    subjects = concat(
      ["system:serviceaccount:slipway-${name}:slipway-serving"],
      name == "staging" ? ["system:serviceaccount:slipway-trials:default"] : [],
    )
    statements = [local.list.packages, local.decrypt, { actions = local.get, resources = ["${local.store}/packages/*"] }]
  } }
  rollout = { for name in local.environments : "rollout-${name}" => {
    description = "The judge of ${name}: reads packages and what was captured, keeps the record of its rollouts"
    subjects    = ["system:serviceaccount:slipway-${name}:slipway-rollout"]
    statements = [
      local.list.packages, local.decrypt,
      { actions = local.get, resources = [for folder in ["packages", "processed", "logs"] : "${local.store}/${folder}/*"] },
      { actions = concat(local.get, local.put, local.drop), resources = ["${local.store}/rollouts/*"] },
    ]
  } }

  controllers = {
    external-secrets = {
      description = "External Secrets: read this environment's secrets"
      subjects    = ["system:serviceaccount:external-secrets:external-secrets"]
      statements = [
        {
          actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
          resources = ["arn:aws:secretsmanager:${var.region}:${data.aws_caller_identity.current.account_id}:secret:${local.prefix}/*"]
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

locals {
  roles = merge(local.workloads, local.serving, local.rollout, local.controllers)
}

data "aws_caller_identity" "current" {}

module "identity" {
  source       = "../../modules/identity"
  prefix       = local.prefix
  provider_arn = module.cluster.oidc.arn
  issuer       = module.cluster.oidc.issuer
  roles        = local.roles
}
