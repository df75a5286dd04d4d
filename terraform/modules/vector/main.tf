# Retrieval holds its index in memory, every copy the whole of it, and builds it anew from the catalogue: nothing to store.
locals {
  # Twice: while segments are merged the old and the new one are there.
  index_gib = 2 * var.items * (var.dimensions * 4 + var.graph_bytes) / 1073741824
}

module "pool" {
  source         = "../node-pool"
  name           = "vector"
  region         = var.region
  cluster_name   = var.cluster_name
  node_role_arn  = var.node_role_arn
  subnet_ids     = var.subnet_ids
  instance_types = [var.instance_type]
  min_size       = var.nodes
  max_size       = var.nodes * 2
  labels         = { "attune.io/pool" = "vector" }
  taints         = [{ key = "attune.io/pool", value = "vector", effect = "NO_SCHEDULE" }]
  key_arn        = var.key_arn
}

# Known before anything is made.
resource "terraform_data" "fits" {
  input = local.index_gib
  lifecycle {
    precondition {
      condition     = local.index_gib <= var.node_gib * 0.7
      error_message = "The index does not fit: choose a machine with more memory."
    }
  }
}
