variable "region" {
  description = "Region of the pool."
  type        = string
}

variable "cluster_name" {
  description = "Cluster that the nodes join."
  type        = string
}

variable "node_role_arn" {
  description = "Role of the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the nodes, one a zone."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of the disks."
  type        = string
}

variable "items" {
  description = "Items of the catalogue."
  type        = number
  default     = 1000000
}

variable "dimensions" {
  description = "Numbers of an item's vector."
  type        = number
  default     = 128
}

variable "graph_bytes" {
  description = "Bytes of an item's place in the graph, beside its vector."
  type        = number
  default     = 256
}

variable "instance_type" {
  description = "Machine type of a node."
  type        = string
  default     = "r7g.large"
}

variable "node_gib" {
  description = "Memory of that machine type."
  type        = number
  default     = 16
}

variable "nodes" {
  description = "Nodes; each holds the whole index, so that each can answer."
  type        = number
  default     = 3
  validation {
    condition     = var.nodes >= 3 && var.nodes % 3 == 0
    error_message = "nodes must be a multiple of 3, so that each zone has the same."
  }
}
