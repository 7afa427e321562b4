variable "name" {
  description = "The folder of all repositories."
  type        = string
  default     = "slipway"
}

variable "images" {
  description = "Images, one repository each."
  type        = set(string)

  validation {
    condition     = length(var.images) > 0
    error_message = "images is empty: name the images that CI pushes, such as [\"serving\"]."
  }
  validation {
    condition     = alltrue([for image in var.images : can(regex("^[a-z0-9][a-z0-9-]*$", image))])
    error_message = "images holds a name that is no repository's: lower-case letters, digits and dashes; no tag, no slash."
  }
}

variable "images_kept" {
  description = "How many tagged images a repository keeps; the oldest go first."
  type        = number
  default     = 300

  validation {
    condition     = var.images_kept >= 50
    error_message = "images_kept is below 50: a rollback would ask for an image that is gone. Keep 50 or more."
  }
}
