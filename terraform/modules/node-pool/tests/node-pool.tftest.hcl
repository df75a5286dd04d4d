mock_provider "aws" {}

variables {
  name           = "serving"
  region         = "us-east-1"
  cluster_name   = "attune-test-use1"
  node_role_arn  = "arn:aws:iam::111122223333:role/nodes"
  subnet_ids     = ["subnet-a", "subnet-b", "subnet-c"]
  instance_types = ["m7g.2xlarge"]
  min_size       = 3
  max_size       = 9
  key_arn        = "arn:aws:kms:us-east-1:111122223333:key/k"
  taints         = [{ key = "attune.io/pool", value = "vector", effect = "NO_SCHEDULE" }]
}

run "hides_the_machine_from_pods" {
  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "pods can take the machine's role"
  }
  assert {
    condition     = aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "disks are not encrypted"
  }
  assert {
    condition     = [for taint in aws_eks_node_group.this.taint : taint.key] == ["attune.io/pool"]
    error_message = "the taint did not reach the nodes"
  }
}

run "refuses_fewer_at_most_than_at_least" {
  command = plan
  variables {
    max_size = 2
  }
  expect_failures = [var.max_size]
}

run "refuses_a_kubernetes_effect" {
  command = plan
  variables {
    taints = [{ key = "a", effect = "NoSchedule" }]
  }
  expect_failures = [var.taints]
}
