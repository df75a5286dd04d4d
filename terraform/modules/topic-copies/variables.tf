variable "name" {
  description = "What the names of replicators begin with."
  type        = string
}

variable "topics" {
  description = "Topics that must be the same everywhere. Regions share no leader: what visitors do stays where they did it."
  type        = list(string)
  default     = ["item-updates"]
  validation {
    condition     = length(var.topics) > 0 && !contains(var.topics, "user-events")
    error_message = "topics must not be empty nor hold user-events: an event that two regions apply is counted twice."
  }
}

variable "home" {
  description = "Brokers of the region in which operators write, and its name."
  type        = object({ region = string, cluster_arn = string, subnet_ids = list(string), security_group_id = string })
}

variable "receivers" {
  description = "Brokers of the other regions, by region."
  type        = map(object({ cluster_arn = string, subnet_ids = list(string), security_group_id = string }))
}
