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
