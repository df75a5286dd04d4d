variable "kubeconfig" {
  description = "Configuration of kubectl for the cluster."
  type        = string
}

variable "context" {
  description = "Context of that configuration; its current one where it is null."
  type        = string
  default     = null
}

variable "namespace" {
  description = "Namespace of Attune."
  type        = string
  default     = "attune"
  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace)) && !startswith(var.namespace, "kube-")
    error_message = "namespace must be a DNS label, and not one of Kubernetes' own."
  }
}

variable "quota" {
  description = "What Attune may ask for in this cluster."
  type = object({
    cpu    = optional(string, "200")
    memory = optional(string, "800Gi")
    pods   = optional(number, 300)
    gpus   = optional(number, 3)
  })
  default = {}
  validation {
    condition     = can(regex("^[0-9]+(\\.[0-9]+)?m?$", var.quota.cpu)) && can(regex("^[0-9]+(Mi|Gi|Ti)$", var.quota.memory)) && var.quota.pods > 0
    error_message = "quota must name quantities of Kubernetes: cpu such as 200, memory such as 800Gi, at least one pod."
  }
}

variable "secrets" {
  description = "Secrets whose places are made here, and the keys that operators put there."
  type        = map(list(string))
  default = {
    attune-subject-key = ["subject.key"]
    attune-log-key     = ["log.key"]
    attune-kafka       = ["password"]
    attune-redis       = ["password"]
  }
}

variable "disk_key_arn" {
  description = "KMS key of volumes; the account's default one where it is null."
  type        = string
  default     = null
}

variable "target_groups" {
  description = "Target groups of live/region, by way in. Needs the AWS load balancer controller in the cluster."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for way in keys(var.target_groups) : contains(["pages", "origin", "traces"], way)])
    error_message = "target_groups knows the ways pages, origin and traces."
  }
}

variable "release" {
  description = "Name of the chart's release, with which its services' names begin."
  type        = string
  default     = "attune"
}
