variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-central-1"
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

variable "github_repository" {
  description = "owner/name of the repository whose CI pushes images."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be owner/name, without https:// and without .git."
  }
}

variable "github_refs" {
  description = "The branches and tags, written out, whose workflows may push images."
  type        = list(string)
  default     = ["refs/heads/main"]

  validation {
    condition     = length(var.github_refs) > 0 && alltrue([for ref in var.github_refs : can(regex("^refs/(heads|tags)/[A-Za-z0-9._/-]+$", ref))])
    error_message = "github_refs must list whole refs without wildcards, such as refs/heads/main: a pull request's ref would let a fork push images."
  }
}
