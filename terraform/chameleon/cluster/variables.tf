variable "environment" {
  description = "staging, canary or production."
  type        = string

  validation {
    condition     = contains(["staging", "canary", "production"], var.environment)
    error_message = "environment is none that exists: use staging, canary or production, such as -var environment=staging."
  }
}

variable "suffix" {
  description = "The project's suffix, in which every name ends."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.suffix))
    error_message = "suffix is missing or unfit: give the project's 2 to 12 lower-case letters and digits, such as -var suffix=proj07."
  }
}

variable "compute_cloud" {
  description = "The entry of clouds.yaml for virtual machines and volumes (KVM@TACC)."
  type        = string
  default     = "kvm_tacc"
}

variable "cidr" {
  description = "The private network of the nodes; pods have an overlay of their own."
  type        = string
  default     = "192.168.1.0/24"

  validation {
    condition     = try(tonumber(split("/", var.cidr)[1]) <= 27, false) && can(cidrnetmask(var.cidr))
    error_message = "cidr is no IPv4 range or too small: give a /27 or larger, such as 192.168.1.0/24."
  }
}

variable "nodes" {
  description = "Servers by name: their pool (cpu or gpu) and their place in the private network."
  type = map(object({
    pool = string
    host = number
  }))
  default = {
    node1 = { pool = "cpu", host = 11 }
    node2 = { pool = "cpu", host = 12 }
    node3 = { pool = "cpu", host = 13 }
  }

  validation {
    condition     = alltrue([for node in var.nodes : contains(["cpu", "gpu"], node.pool)])
    error_message = "A node's pool is neither cpu nor gpu."
  }
  validation {
    condition     = length([for node in var.nodes : node if node.pool == "cpu"]) >= 1
    error_message = "No node is of the pool cpu: the control plane and the floating address need one."
  }
  validation {
    condition     = length(distinct([for node in var.nodes : node.host])) == length(var.nodes)
    error_message = "Two nodes have the same host number: each needs an address of its own."
  }
}

variable "gpu_runs" {
  description = "Whether training runs will ask for GPUs."
  type        = bool
  default     = false

  validation {
    condition     = !var.gpu_runs || anytrue([for node in var.nodes : node.pool == "gpu"])
    error_message = "gpu_runs is true, but no node is of the pool gpu: every GPU run would wait for ever. Add one to nodes, or set gpu_runs = false."
  }
}

variable "cpu_reservation" {
  description = "The flavour that the lease made for the cpu nodes (openstack reservation lease show)."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.cpu_reservation))
    error_message = "cpu_reservation is no reservation: make a lease first and give its flavour's UUID, from `openstack reservation lease show <lease>`."
  }
}

variable "gpu_reservation" {
  description = "The flavour that the lease made for the gpu nodes."
  type        = string
  default     = ""

  validation {
    condition     = alltrue([for node in var.nodes : node.pool != "gpu"]) || can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.gpu_reservation))
    error_message = "A node is of the pool gpu, and gpu_reservation is no reservation: make a lease for GPUs first and give its flavour's UUID."
  }
}

variable "cpu_image" {
  description = "The image of cpu nodes."
  type        = string
  default     = "CC-Ubuntu24.04"
}

variable "gpu_image" {
  description = "The image of gpu nodes, with NVIDIA's driver."
  type        = string
  default     = "CC-Ubuntu24.04-CUDA"
}

variable "key_pair" {
  description = "The key pair's name at the compute site."
  type        = string
}

variable "admin_cidrs" {
  description = "Who may reach SSH and the API server."
  type        = list(string)

  validation {
    condition     = length(var.admin_cidrs) > 0 && alltrue([for cidr in var.admin_cidrs : can(cidrnetmask(cidr))])
    error_message = "admin_cidrs must hold your own IPv4 addresses, such as [\"203.0.113.7/32\"]: without them nobody reaches the nodes."
  }
  validation {
    condition     = alltrue([for cidr in var.admin_cidrs : try(tonumber(split("/", cidr)[1]) >= 16, true)])
    error_message = "admin_cidrs opens SSH to the world: name your own addresses, a /16 at most."
  }
}

variable "volume_ids" {
  description = "Volumes of chameleon/storage that are attached to the first cpu node: its output volume_ids."
  type        = map(string)
  default     = {}
}
