variable "name" {
  description = "Name of the role that copies."
  type        = string
}

variable "home" {
  description = "Where models are published."
  type        = object({ region = string, bucket = string, bucket_arn = string, key_arn = string })
}

variable "copies" {
  description = "Buckets that receive them, by region."
  type        = map(object({ bucket_arn = string, key_arn = string }))
  validation {
    condition     = length(var.copies) > 0
    error_message = "copies must name at least one bucket: leave the module out otherwise."
  }
}
