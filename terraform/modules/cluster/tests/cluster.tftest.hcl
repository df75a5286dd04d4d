mock_provider "aws" {}

variables {
  name       = "attune-test-use1"
  region     = "us-east-1"
  subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
  key_arn    = "arn:aws:kms:us-east-1:111122223333:key/k"
  pools      = { serving = { instance_types = ["m7g.2xlarge"], min_size = 6, max_size = 12 } }
  access     = { deployers = { role_arn = "arn:aws:iam::111122223333:role/deploy", groups = ["attune:deployers"] } }
}

run "is_private_encrypted_and_logged" {
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "the API server can be reached from outside"
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].resources == toset(["secrets"])
    error_message = "secrets are not encrypted"
  }
  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5
    error_message = "a log of the control plane is missing"
  }
  assert {
    condition     = jsondecode(aws_eks_addon.this["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "network policies are not enforced"
  }
  assert {
    condition     = module.pool["serving"].labels["attune.io/pool"] == "serving"
    error_message = "nodes do not say which pool they are of"
  }
}

run "refuses_an_uneven_pool" {
  command = plan
  variables {
    pools = { serving = { instance_types = ["m7g.2xlarge"], min_size = 4, max_size = 12 } }
  }
  expect_failures = [var.pools]
}

run "refuses_what_the_chart_does_not_support" {
  command = plan
  variables {
    kubernetes_version = "1.29"
  }
  expect_failures = [var.kubernetes_version]
}

run "refuses_a_way_around_rbac" {
  command = plan
  variables {
    access = { all = { role_arn = "arn:aws:iam::111122223333:role/x", groups = ["system:masters"] } }
  }
  expect_failures = [var.access]
}
