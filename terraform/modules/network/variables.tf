variable "name" {
  description = "What the names of all objects begin with."
  type        = string
}

variable "region" {
  description = "Region of the network."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network, a /16."
  type        = string
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr must be an IPv4 network of 16 bits, such as 10.10.0.0/16."
  }
}

variable "zones" {
  description = "Letters of the zones, three of them."
  type        = list(string)
  default     = ["a", "b", "c"]
  validation {
    condition     = length(var.zones) == 3 && length(distinct(var.zones)) == 3
    error_message = "zones must be three different letters: brokers and caches are spread over three."
  }
}

variable "key_arn" {
  description = "KMS key of the flow log."
  type        = string
}

variable "log_days" {
  description = "Days that flow logs are kept."
  type        = number
  default     = 90
}

variable "nat" {
  description = "Whether private subnets have a way out. Without it only endpoints of the network can be reached."
  type        = bool
  default     = true
}
