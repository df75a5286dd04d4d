locals {
  labels = { "attune.io/pool" = "gpu" }
  taint  = { key = "nvidia.com/gpu", value = "present", effect = "NO_SCHEDULE" }
}

module "pool" {
  source         = "../node-pool"
  name           = "gpu"
  region         = var.region
  cluster_name   = var.cluster_name
  node_role_arn  = var.node_role_arn
  subnet_ids     = var.subnet_ids
  instance_types = var.instance_types
  ami_type       = "AL2023_x86_64_NVIDIA"
  min_size       = var.min_size
  max_size       = var.max_size
  labels         = local.labels
  taints         = [local.taint]
  disk_gib       = var.disk_gib
  key_arn        = var.key_arn
}
