terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25"
    }
  }

  # Bucket, key and region come with `init -backend-config`: see terraform/README.md.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = local.home
  default_tags {
    tags = { platform = var.name, "managed-by" = "terraform" }
  }
}
