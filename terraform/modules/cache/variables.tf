variable "name" {
  description = "Name of the cache; at most 40 characters."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,39}$", var.name))
    error_message = "name must be at most 40 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the cache. Writes stay in it: state merges between regions by the log, not here."
  type        = string
}

variable "vpc_id" {
  description = "Network of the cache."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the cache, one a zone."
  type        = list(string)
}

variable "clients" {
  description = "Security groups that may speak to the cache, by a name."
  type        = map(string)
}

variable "key_arn" {
  description = "KMS key of snapshots, disks and the password."
  type        = string
}

variable "shards" {
  description = "Shards; a partition of the log lies whole in one of them, so more than partitions are idle."
  type        = number
  default     = 1
  validation {
    condition     = var.shards >= 1
    error_message = "shards must be at least 1."
  }
}

variable "replicas" {
  description = "Copies of a shard besides the first; two put one in each zone."
  type        = number
  default     = 2
  validation {
    condition     = var.replicas >= 1 && var.replicas <= 5
    error_message = "replicas must be 1 to 5: without one a lost node is a lost shard."
  }
}

variable "node_type" {
  description = "Machine type of a node."
  type        = string
  default     = "cache.r7g.2xlarge"
}

variable "log_days" {
  description = "Days that slow commands are kept."
  type        = number
  default     = 30
}
