variable "name" {
  description = "Name of the bucket."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name must be a bucket's name: 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the bucket."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the objects."
  type        = string
}

variable "cold_after_days" {
  description = "Days until events of the lake become cold."
  type        = number
  default     = 7
}

variable "keep_days" {
  description = "Days until events of the lake go away. An erasure's receipt names this as the latest end."
  type        = number
  default     = 97
  validation {
    condition     = var.keep_days >= var.cold_after_days + 90
    error_message = "keep_days must be at least 90 after cold_after_days: cold storage bills no less."
  }
}

variable "old_versions_days" {
  description = "Days that replaced or deleted objects can be brought back."
  type        = number
  default     = 14
}
