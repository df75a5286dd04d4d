variable "name" {
  description = "Name of the platform's environment, such as attune-prod."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,14}$", var.name))
    error_message = "name must be 3 to 15 lower-case letters, digits and hyphens: it begins many names, and some may not be long."
  }
}

variable "region" {
  description = "Region."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region's name, such as eu-west-1."
  }
}

variable "short" {
  description = "The region in names that may not be long, such as euw1."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2,4}[0-9]$", var.short))
    error_message = "short must be 2 to 4 letters and a digit, such as euw1."
  }
}

variable "cidr" {
  description = "Addresses of the network, a /16."
  type        = string
}

variable "zones" {
  description = "Letters of the zones, three of them."
  type        = list(string)
  default     = ["a", "b", "c"]
}

variable "sizing" {
  description = "What modules/sizing found for each region."
  type        = object({ nodes = number, brokers = number, cache_shards = number })
  validation {
    condition     = var.sizing.nodes % 3 == 0 && var.sizing.brokers % 3 == 0
    error_message = "nodes and brokers must be multiples of 3: each zone has the same number."
  }
}

variable "node_type" {
  description = "Machine type of serving nodes."
  type        = string
  default     = "m7g.2xlarge"
}

variable "gpu" {
  description = "A pool with GPUs for a language model; none where it is null."
  type        = object({ instance_types = optional(list(string), ["g6.xlarge"]), min_size = optional(number, 0), max_size = optional(number, 3) })
  default     = null
}

variable "items" {
  description = "Items of the catalogue."
  type        = number
  default     = 1000000
}

variable "domain" {
  description = "Name under which visitors ask."
  type        = string
}


variable "pop_regions" {
  description = "Regions of points of presence that ask this origin."
  type        = list(string)
  default     = []
}

variable "other_regions" {
  description = "Whether another region reads from this one's brokers; see modules/streaming."
  type        = bool
  default     = false
}

variable "access" {
  description = "Who may speak to the cluster; see modules/cluster."
  type        = map(object({ role_arn = string, groups = list(string) }))
  default     = {}
}

variable "alert_emails" {
  description = "Who hears of alerts."
  type        = list(string)
  default     = []
}

variable "image_repository" {
  description = "Repository of Attune's image; it must be built with the feature kafka-ssl."
  type        = string
}

variable "namespace" {
  description = "Namespace of Attune in the cluster, as live/platform makes it."
  type        = string
  default     = "attune"
}
