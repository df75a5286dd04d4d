variable "name" {
  description = "What the names of all objects begin with; at most 22 characters."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,21}$", var.name))
    error_message = "name must be 3 to 22 lower-case letters, digits and hyphens: a search domain allows no more beside its ending."
  }
}

variable "region" {
  description = "Region of the stores."
  type        = string
}

variable "vpc_id" {
  description = "Network of the search domain."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the search domain, one a zone."
  type        = list(string)
}

variable "clients" {
  description = "Security groups that may speak to the search domain, by a name."
  type        = map(string)
}

variable "cluster_name" {
  description = "Cluster in which the Collector runs."
  type        = string
}

variable "key_arn" {
  description = "KMS key of everything kept here."
  type        = string
}

variable "namespace" {
  description = "Namespace of the Collector."
  type        = string
  default     = "attune-observability"
}

variable "search_type" {
  description = "Machine type of the search domain's data nodes."
  type        = string
  default     = "r7g.large.search"
}

variable "search_gib" {
  description = "Disk of a data node."
  type        = number
  default     = 200
}

variable "alert_emails" {
  description = "Who hears of alerts."
  type        = list(string)
  default     = []
}

variable "log_days" {
  description = "Days that the domain's own logs are kept."
  type        = number
  default     = 90
}
