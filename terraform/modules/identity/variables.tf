variable "prefix" {
  description = "What every role's name begins with."
  type        = string
}

variable "provider_arn" {
  description = "The identity provider: a cluster's, or GitHub's."
  type        = string
}

variable "issuer" {
  description = "The provider's issuer, without https://."
  type        = string

  validation {
    condition     = !startswith(var.issuer, "https://")
    error_message = "issuer must come without https://: IAM's condition keys are <issuer>:sub."
  }
}

variable "roles" {
  description = <<-EOT
    Roles by name. subjects: exactly who (system:serviceaccount:<namespace>:<name>, or repo:<owner>/<name>:ref:refs/heads/main).
    statements: exactly what; `because` says why a statement cannot name its resources; if_equal and if_true are
    conditions. managed_policies: AWS' own, below
    arn:aws:iam::aws:policy/.
  EOT
  type = map(object({
    description      = string
    subjects         = list(string)
    managed_policies = optional(list(string), [])
    statements = optional(list(object({
      actions   = list(string)
      resources = list(string)
      because   = optional(string, "")
      if_equal  = optional(map(string), {})
      if_true   = optional(list(string), [])
    })), [])
  }))

  validation {
    condition     = alltrue([for name, role in var.roles : length(var.prefix) + length(name) < 64])
    error_message = "A role's name is longer than IAM's 64 characters: shorten the suffix or the role's name."
  }
  validation {
    condition     = alltrue([for role in var.roles : length(role.subjects) > 0])
    error_message = "A role has no subject: nobody could take it. Name the service account or the repository's branch."
  }
  validation {
    condition     = alltrue(flatten([for role in var.roles : [for subject in role.subjects : !strcontains(subject, "*") && !strcontains(subject, "?")]]))
    error_message = "A subject holds a wildcard: another service account, fork or branch could take the role. Write each subject out."
  }
  validation {
    condition     = alltrue(flatten([for role in var.roles : [for statement in role.statements : [for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z]+$", action))]]]))
    error_message = "An action holds a wildcard or names no service: list each action, such as s3:GetObject."
  }
  validation {
    condition     = alltrue(flatten([for role in var.roles : [for statement in role.statements : !contains(statement.resources, "*") || statement.because != ""]]))
    error_message = "A statement covers every resource (\"*\") and says not why: name the resources, or give `because` where AWS knows none for the action."
  }
}
