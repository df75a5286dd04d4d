mock_provider "aws" {}

variables {
  name         = "attune-test-use1"
  region       = "us-east-1"
  vpc_id       = "vpc-1"
  subnet_ids   = ["subnet-a", "subnet-b", "subnet-c"]
  clients      = { cluster = "sg-1" }
  cluster_name = "attune-test-use1"
  key_arn      = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "has_no_password_and_no_way_in" {
  assert {
    condition     = !aws_opensearch_domain.this.advanced_security_options[0].internal_user_database_enabled
    error_message = "the search domain has users with passwords"
  }
  assert {
    condition     = aws_opensearch_domain.this.domain_endpoint_options[0].enforce_https && aws_opensearch_domain.this.node_to_node_encryption[0].enabled && aws_opensearch_domain.this.encrypt_at_rest[0].enabled
    error_message = "logs travel or lie in the clear"
  }
  assert {
    condition     = length(aws_opensearch_domain.this.log_publishing_options) == 4
    error_message = "a log of the domain is missing"
  }
  assert {
    condition     = output.otlp == "http://attune-collector.attune-observability:4317"
    error_message = "services send traces elsewhere than the Collector is"
  }
}

run "refuses_a_name_without_room" {
  command = plan
  variables {
    name = "attune-production-ap-southeast-1"
  }
  expect_failures = [var.name]
}
