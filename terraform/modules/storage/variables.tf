variable "prefix" {
  description = "What every name here begins with: <prefix>-lake, <prefix>-mlflow, <prefix>-packages, <prefix>-logs."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,52}[a-z0-9]$", var.prefix))
    error_message = "prefix must be 3 to 54 lower-case letters, digits and dashes: bucket names are made of it, and they end at 63."
  }
}

variable "volumes" {
  description = "Disks by name: their zone and their size."
  type = map(object({
    zone    = string
    size_gb = number
  }))
  default = {}

  validation {
    condition     = alltrue([for volume in var.volumes : volume.size_gb >= 1 && volume.size_gb <= 16384])
    error_message = "A volume's size_gb is not between 1 and 16,384, which is what gp3 has."
  }
}

variable "secrets" {
  description = "Names of secrets that External Secrets will read."
  type        = set(string)
  default     = []
}

variable "back_up_files" {
  description = "Whether AWS Backup keeps the file system's last 35 days."
  type        = bool
  default     = true
}
