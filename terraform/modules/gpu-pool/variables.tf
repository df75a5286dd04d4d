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
  description = "Subnets of zones that have the machine type."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of the disks."
  type        = string
}

variable "instance_types" {
  description = "Machine types, all with the same number of NVIDIA GPUs."
  type        = list(string)
  default     = ["g6.xlarge"]
  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for type in var.instance_types : can(regex("^(g4dn|g5|g6|g6e|gr6|p4d|p4de|p5|p5e|p5en)\\.", type))])
    error_message = "instance_types must be machines with NVIDIA GPUs, such as g6.xlarge."
  }
}

variable "min_size" {
  description = "Nodes that are always there; 0 where a pod may wait for one."
  type        = number
  default     = 0
}

variable "max_size" {
  description = "Nodes at most."
  type        = number
  default     = 3
}

variable "disk_gib" {
  description = "Disk of a node: images and weights."
  type        = number
  default     = 200
}
