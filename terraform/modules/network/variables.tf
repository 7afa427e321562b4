variable "name" {
  description = "The cluster's name, of which every name here is made."
  type        = string
}

variable "cidr" {
  description = "The VPC's addresses: three quarters go to nodes and pods, a quarter to what is public."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr))
    error_message = "cidr is no IPv4 range: write it like 10.40.0.0/16."
  }
  validation {
    condition     = !can(cidrnetmask(var.cidr)) || try(tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr is too small: every pod takes an address, and a /20 leaves only 1,019 for each zone. Give a /20 or larger; /16 is the default."
  }
  validation {
    condition     = !can(cidrnetmask(var.cidr)) || try(tonumber(split("/", var.cidr)[1]) >= 16, false)
    error_message = "cidr is too large: a VPC may have a /16 at most."
  }
}

variable "zones" {
  description = "Availability zones, three of them: a quorum outlives the loss of one."
  type        = list(string)

  validation {
    condition     = length(distinct(var.zones)) == 3
    error_message = "zones must name three different availability zones: databases and brokers need a quorum when one is lost."
  }
}

variable "nat_in_each_zone" {
  description = "One NAT gateway in each zone (production), or one for all (a third of the price)."
  type        = bool
  default     = false
}

variable "flow_log_bucket_arn" {
  description = "The bucket that the network's flow log is written to."
  type        = string
}
