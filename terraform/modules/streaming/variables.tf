variable "name" {
  description = "Name of the cluster of brokers."
  type        = string
}

variable "region" {
  description = "Region of the brokers."
  type        = string
}

variable "vpc_id" {
  description = "Network of the brokers."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the brokers, one in each of three zones."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) == 3
    error_message = "subnet_ids must be three, one a zone: a partition has a copy in each."
  }
}

variable "clients" {
  description = "Security groups that may speak to the brokers, by a name."
  type        = map(string)
}

variable "key_arn" {
  description = "KMS key of disks, logs and the client's password."
  type        = string
}

variable "kafka_version" {
  description = "Version of Kafka."
  type        = string
  default     = "3.9.x"
}

variable "brokers" {
  description = "How many brokers; the same number in each zone."
  type        = number
  default     = 3
  validation {
    condition     = var.brokers >= 3 && var.brokers % 3 == 0
    error_message = "brokers must be a multiple of 3: each of three zones has the same number."
  }
}

variable "broker_type" {
  description = "Machine type of a broker."
  type        = string
  default     = "kafka.m7g.large"
}

variable "disk_gib" {
  description = "Disk of a broker at first."
  type        = number
  default     = 1000
}

variable "max_disk_gib" {
  description = "Disk of a broker at most; it grows by itself."
  type        = number
  default     = 4000
  validation {
    condition     = var.max_disk_gib >= var.disk_gib
    error_message = "max_disk_gib must not be below disk_gib."
  }
}

variable "username" {
  description = "Name by which Attune's services log in."
  type        = string
  default     = "attune"
}

variable "other_regions" {
  description = "Whether another region reads from here. The vendor turns it on only for brokers that run already: apply without it first."
  type        = bool
  default     = false
}

variable "log_days" {
  description = "Days that broker logs are kept."
  type        = number
  default     = 90
}
