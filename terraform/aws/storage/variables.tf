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

variable "postgres_gb" {
  description = "The database's disk. It can grow later, never shrink."
  type        = number
  default     = 50
}

variable "back_up_files" {
  description = "Whether AWS Backup keeps the file system's last 35 days."
  type        = bool
  default     = true
}
