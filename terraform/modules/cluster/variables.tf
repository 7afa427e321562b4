variable "name" {
  description = "The cluster's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 40 lower-case letters, digits and dashes: roles and aliases are made of it, and they end at 64."
  }
}

variable "kubernetes_version" {
  description = "Kubernetes' minor version; one that AWS has under standard support."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version in quotes, such as \"1.35\"."
  }
}

variable "subnet_ids" {
  description = "Private subnets, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must hold subnets in two zones at least: EKS refuses fewer. Pass the network module's private_subnet_ids."
  }
}

variable "admin_cidrs" {
  description = "Who may reach the API server over the Internet; none: only the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : can(cidrnetmask(cidr))])
    error_message = "admin_cidrs holds something that is no IPv4 range: write each like 203.0.113.7/32."
  }
  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : try(tonumber(split("/", cidr)[1]) >= 16, true)])
    error_message = "admin_cidrs opens the API server to the world: name your own addresses (a /16 at most), or leave it empty and come through the VPC."
  }
}

variable "admin_role_arns" {
  description = "Name to the IAM role whose holders administer the cluster, besides the one that creates it."
  type        = map(string)
  default     = {}
}

variable "addons" {
  description = "EKS add-ons by name: version, their configuration as JSON, and whether their pods need nodes to become healthy."
  type = map(object({
    version       = optional(string)
    configuration = optional(string)
    needs_nodes   = bool
  }))
  default = {}
}

variable "log_retention_days" {
  description = "How long the control plane's log is kept."
  type        = number
  default     = 90
}
