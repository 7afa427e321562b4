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

variable "object_cloud" {
  description = "The entry of clouds.yaml for object containers (CHI@TACC); KVM@TACC has none."
  type        = string
  default     = "chi_tacc"
}

variable "volumes" {
  description = "Volumes by name, in GB."
  type        = map(number)
  default     = { postgres = 20, lake = 100 }

  validation {
    condition     = alltrue([for size in var.volumes : size >= 1 && floor(size) == size])
    error_message = "A volume's size is not a whole number of GB from 1."
  }
}
