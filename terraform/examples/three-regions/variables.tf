variable "name" {
  description = "Name of the environment."
  type        = string
  default     = "attune-demo"
}

variable "domain" {
  description = "Name under which visitors ask."
  type        = string
  default     = "attune.example.com"
}

variable "zone_id" {
  description = "Hosted zone of that name."
  type        = string
  default     = "Z0123456789ABCDEFGHIJ"
}

variable "image_repository" {
  description = "Repository of Attune's image."
  type        = string
  default     = "registry.example.com/attune"
}

variable "drained" {
  description = "Region whose visitors go elsewhere; none where it is null."
  type        = string
  default     = null
  validation {
    condition     = var.drained == null || contains(["us-east-1", "eu-west-1", "ap-southeast-1"], coalesce(var.drained, "us-east-1"))
    error_message = "drained must be one of the three regions."
  }
}
