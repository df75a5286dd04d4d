variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "region" {
  description = "Region of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version, not below the chart's floor of 1.30."
  type        = string
  default     = "1.34"
  validation {
    condition     = can(regex("^1\\.[3-9][0-9]$", var.kubernetes_version))
    error_message = "kubernetes_version must be 1.30 or later."
  }
}

variable "subnet_ids" {
  description = "Subnets of control plane and nodes, one a zone."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of secrets, disks and logs."
  type        = string
}

variable "pools" {
  description = "Node pools without accelerators; sizes are multiples of the zones."
  type = map(object({
    instance_types = list(string)
    min_size       = number
    max_size       = number
    labels         = optional(map(string), {})
  }))
  validation {
    condition     = alltrue([for pool in var.pools : pool.min_size % 3 == 0 && pool.min_size > 0])
    error_message = "a pool's min_size must be a multiple of 3, so that each zone has the same."
  }
}

variable "access" {
  description = "Who may speak to the cluster: a role's ARN, and the Kubernetes groups that live/platform binds."
  type        = map(object({ role_arn = string, groups = list(string) }))
  default     = {}
  validation {
    condition     = alltrue([for one in var.access : !anytrue([for group in one.groups : startswith(group, "system:")])])
    error_message = "groups must not begin with system: - give administrators an access policy instead."
  }
}

variable "log_days" {
  description = "Days that the control plane's logs are kept."
  type        = number
  default     = 90
}
