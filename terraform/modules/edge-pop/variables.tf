variable "name" {
  description = "Name of the point of presence; at most 26 characters."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,25}$", var.name))
    error_message = "name must be 2 to 26 lower-case letters, digits and hyphens: a load balancer allows no more beside its ending."
  }
}

variable "pop" {
  description = "What metrics and traces call it."
  type        = string
}

variable "region" {
  description = "Region of the machines."
  type        = string
}

variable "cidr" {
  description = "Addresses of its network, a /16. Networks of others may have the same: nothing is routed between them."
  type        = string
  default     = "10.200.0.0/16"
}

variable "zones" {
  description = "Letters of the zones, three of them."
  type        = list(string)
  default     = ["a", "b", "c"]
}

variable "origins" {
  description = "Origin regions to ask, the first while it is well, then the second."
  type        = list(object({ region = string, service_name = string }))
  validation {
    condition     = length(var.origins) >= 1 && length(distinct([for origin in var.origins : origin.region])) == length(var.origins)
    error_message = "origins must name at least one region, none twice."
  }
}

variable "domain" {
  description = "Name under which visitors ask."
  type        = string
}


variable "instance_type" {
  description = "Machine type of an edge."
  type        = string
  default     = "c7g.large"
}

variable "image_parameter" {
  description = "SSM parameter that names the machine image: a system with attune-edge and the aws command line."
  type        = string
  default     = "/attune/edge/image"
}

variable "instances" {
  description = "Edges that are always there."
  type        = number
  default     = 3
  validation {
    condition     = var.instances >= 3
    error_message = "instances must be at least 3: one in each zone."
  }
}

variable "max_instances" {
  description = "Edges at most; three times as many as always are there when it is not named."
  type        = number
  default     = null
}

variable "bundles_uri" {
  description = "Where model bundles lie, as s3://BUCKET/FOLDER."
  type        = string
  validation {
    condition     = can(regex("^s3://[a-z0-9-]+/.+$", var.bundles_uri))
    error_message = "bundles_uri must be s3://BUCKET/FOLDER."
  }
}

variable "bundles_key_arn" {
  description = "KMS key of the bundles."
  type        = string
}

variable "subject_key_arn" {
  description = "Secret with the key that turns user ids into pseudonyms, the same for all."
  type        = string
}

variable "subject_key_kms_arn" {
  description = "KMS key of that secret."
  type        = string
}

variable "subject_key_region" {
  description = "Region of that secret, or of its copy here."
  type        = string
}
