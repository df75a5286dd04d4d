mock_provider "aws" {}

variables {
  region        = "us-east-1"
  cluster_name  = "attune-test-use1"
  node_role_arn = "arn:aws:iam::111122223333:role/nodes"
  subnet_ids    = ["subnet-a", "subnet-b", "subnet-c"]
  key_arn       = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "a_million_items_fit" {
  assert {
    condition     = output.index_gib > 1.4 && output.index_gib < 1.5
    error_message = "a million vectors of 128 numbers, twice, with their graph, are 1.43 GiB"
  }
  assert {
    condition     = output.scheduling.tolerations[0].value == output.scheduling.nodeSelector["attune.io/pool"]
    error_message = "a pod that is sent here is not let in"
  }
}

run "refuses_an_index_that_does_not_fit" {
  command = plan
  variables {
    items = 50e6
  }
  expect_failures = [terraform_data.fits]
}

run "refuses_uneven_zones" {
  command = plan
  variables {
    nodes = 4
  }
  expect_failures = [var.nodes]
}
