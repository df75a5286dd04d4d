mock_provider "aws" {}

variables {
  region        = "us-east-1"
  cluster_name  = "attune-test-use1"
  node_role_arn = "arn:aws:iam::111122223333:role/nodes"
  subnet_ids    = ["subnet-a"]
  key_arn       = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "keeps_other_pods_away" {
  assert {
    condition     = output.scheduling.tolerations[0].key == "nvidia.com/gpu" && output.scheduling.tolerations[0].effect == "NoSchedule"
    error_message = "the toleration does not fit the taint"
  }
  assert {
    condition     = output.scheduling.nodeSelector == tomap({ "attune.io/pool" = "gpu" })
    error_message = "the selector does not fit the nodes"
  }
}

run "refuses_a_machine_without_a_gpu" {
  command = plan
  variables {
    instance_types = ["m7g.2xlarge"]
  }
  expect_failures = [var.instance_types]
}
