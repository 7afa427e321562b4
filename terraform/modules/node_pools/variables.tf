variable "cluster_name" {
  description = "The cluster that the nodes join."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets."
  type        = list(string)
}

variable "pools" {
  description = "Node pools by name. kind (cpu or gpu) is the label slipway.dev/pool, by which workloads choose."
  type = map(object({
    kind           = string
    instance_types = list(string)
    min_size       = number
    max_size       = number
    disk_gb        = optional(number, 100)
    spot           = optional(bool, false)
  }))

  validation {
    condition     = alltrue([for pool in var.pools : contains(["cpu", "gpu"], pool.kind)])
    error_message = "A pool's kind is neither cpu nor gpu: workloads choose by slipway.dev/pool, and they know these two."
  }
  validation {
    condition     = alltrue([for pool in var.pools : pool.kind != "gpu" || pool.max_size >= 1])
    error_message = "A GPU pool has size 0: every GPU run would wait for ever. Give it a max_size of 1 or more, or remove the pool and set gpu_runs = false."
  }
  validation {
    condition     = alltrue([for pool in var.pools : 0 <= pool.min_size && pool.min_size <= pool.max_size && pool.max_size >= 1])
    error_message = "A pool's sizes do not fit: 0 <= min_size <= max_size, and max_size at least 1. Remove the pool if it shall have no node."
  }
  validation {
    condition     = anytrue([for pool in var.pools : pool.kind == "cpu" && pool.min_size >= 1])
    error_message = "No pool of kind cpu keeps a node: the controllers and the platform need one. Set min_size of a cpu pool to 1 or more."
  }
  validation {
    condition     = alltrue([for pool in var.pools : length(pool.instance_types) > 0])
    error_message = "A pool names no instance type: give one at least, such as [\"m6i.xlarge\"]."
  }
  validation {
    condition     = alltrue([for pool in var.pools : pool.disk_gb >= (pool.kind == "gpu" ? 100 : 50)])
    error_message = "A pool's disk is too small: 50 GB for cpu and 100 GB for gpu at least. CUDA images alone take tens."
  }
}

variable "gpu_runs" {
  description = "Whether training runs will ask for GPUs."
  type        = bool

  validation {
    condition     = !var.gpu_runs || anytrue([for pool in var.pools : pool.kind == "gpu" && pool.max_size > 0])
    error_message = "gpu_runs is true, but no pool of kind gpu may have a node: every GPU run would wait for ever. Give a gpu pool a max_size of 1 or more, or set gpu_runs = false."
  }
}

variable "addons" {
  description = "EKS add-ons; those that need nodes are made here."
  type = map(object({
    version       = optional(string)
    configuration = optional(string)
    needs_nodes   = bool
  }))
  default = {}
}

variable "addon_role_arns" {
  description = "Add-on to the role of its service account."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags on machines and their disks, which a provider's default tags do not reach."
  type        = map(string)
  default     = {}
}
