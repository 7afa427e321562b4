variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "environment" {
  description = "staging, canary or production."
  type        = string

  validation {
    condition     = contains(["staging", "canary", "production"], var.environment)
    error_message = "environment is none that exists: use staging, canary or production, such as -var environment=staging."
  }
}

variable "suffix" {
  description = "What makes names yours in a shared account: a project's or a person's short name."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.suffix))
    error_message = "suffix is missing or unfit: give 2 to 12 lower-case letters and digits that are yours, such as -var suffix=proj07."
  }
}

variable "cidr" {
  description = "The VPC's addresses; a /20 or larger."
  type        = string
  default     = "10.40.0.0/16"
}

variable "nat_in_each_zone" {
  description = "One NAT gateway in each zone, or one for all."
  type        = bool
}

variable "kubernetes_version" {
  description = "Kubernetes' minor version. 1.35 is under AWS' standard support until March 2027."
  type        = string
  default     = "1.35"
}

variable "admin_cidrs" {
  description = "Who may reach the API server over the Internet; none: only the VPC."
  type        = list(string)
  default     = []
}

variable "admin_role_arns" {
  description = "Name to the IAM role whose holders administer the cluster, besides the one that creates it."
  type        = map(string)
  default     = {}
}

variable "pools" {
  description = "Node pools; see modules/node_pools."
  type = map(object({
    kind           = string
    instance_types = list(string)
    min_size       = number
    max_size       = number
    disk_gb        = optional(number, 100)
    spot           = optional(bool, false)
  }))
}

variable "gpu_runs" {
  description = "Whether training runs will ask for GPUs: refused where no GPU pool may have a node."
  type        = bool
}

variable "serving_namespaces" {
  description = "The namespaces of this cluster in which models are served."
  type        = list(string)

  validation {
    condition     = length(var.serving_namespaces) > 0 && alltrue([for name in var.serving_namespaces : contains(["slipway-staging", "slipway-canary", "slipway-production"], name)])
    error_message = "serving_namespaces must hold one or more of slipway-staging, slipway-canary and slipway-production: the manifests know these."
  }
}

variable "addons" {
  description = "EKS add-ons; the newest version that fits the cluster where none is named. Empty: EKS installs its unmanaged ones."
  type = map(object({
    version       = optional(string)
    configuration = optional(string)
    needs_nodes   = bool
  }))
  default = {
    # Enforces the manifests' NetworkPolicies: without this they are words.
    vpc-cni            = { configuration = "{\"enableNetworkPolicy\":\"true\"}", needs_nodes = false }
    kube-proxy         = { needs_nodes = false }
    coredns            = { needs_nodes = true }
    aws-ebs-csi-driver = { needs_nodes = true }
    aws-efs-csi-driver = { needs_nodes = true }
  }
}
