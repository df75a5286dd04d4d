variable "name" {
  description = "Name of the pool, unique in its cluster."
  type        = string
}

variable "region" {
  description = "Region of the pool."
  type        = string
}

variable "cluster_name" {
  description = "Cluster that the nodes join."
  type        = string
}

variable "node_role_arn" {
  description = "Role of the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the nodes, one a zone."
  type        = list(string)
}

variable "instance_types" {
  description = "Machine types that may serve, the first preferred."
  type        = list(string)
  validation {
    condition     = length(var.instance_types) > 0
    error_message = "instance_types must name at least one type."
  }
}

variable "ami_type" {
  description = "Image family of the nodes."
  type        = string
  default     = "AL2023_ARM_64_STANDARD"
}

variable "min_size" {
  description = "Nodes that are always there."
  type        = number
}

variable "max_size" {
  description = "Nodes at most."
  type        = number
  validation {
    condition     = var.max_size >= var.min_size
    error_message = "max_size must not be below min_size."
  }
}

variable "labels" {
  description = "Labels of the nodes."
  type        = map(string)
  default     = {}
}

variable "taints" {
  description = "Taints of the nodes."
  type        = list(object({ key = string, value = optional(string), effect = string }))
  default     = []
  validation {
    condition     = alltrue([for taint in var.taints : contains(["NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"], taint.effect)])
    error_message = "a taint's effect must be NO_SCHEDULE, NO_EXECUTE or PREFER_NO_SCHEDULE."
  }
}

variable "disk_gib" {
  description = "Disk of a node."
  type        = number
  default     = 100
}

variable "key_arn" {
  description = "KMS key of the disks."
  type        = string
}
