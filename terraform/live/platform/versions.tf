terraform {
  required_version = ">= 1.11"
  required_providers {
    kubectl = {
      source  = "gavinbunney/kubectl"
      version = "~> 1.19"
    }
  }

  # Bucket, key and region come with `init -backend-config`: a state for each cluster. See terraform/README.md.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

# The configuration asks for its token when it is used (`aws eks update-kubeconfig`): no state holds one.
provider "kubectl" {
  config_path      = var.kubeconfig
  config_context   = var.context
  load_config_file = true
}
