mock_provider "aws" {}

variables {
  name = "attune-test"
  home = { region = "us-east-1", bucket = "us", bucket_arn = "arn:aws:s3:::us", key_arn = "arn:aws:kms:us-east-1:111122223333:key/k" }
  copies = {
    eu-west-1      = { bucket_arn = "arn:aws:s3:::eu", key_arn = "arn:aws:kms:eu-west-1:111122223333:key/k" }
    ap-southeast-1 = { bucket_arn = "arn:aws:s3:::ap", key_arn = "arn:aws:kms:ap-southeast-1:111122223333:key/k" }
  }
}

run "copies_models_and_nothing_else" {
  assert {
    condition     = [for rule in aws_s3_bucket_replication_configuration.this.rule : rule.filter[0].prefix] == ["bundles/", "bundles/"]
    error_message = "more than models, or less, is copied"
  }
  assert {
    condition     = length(distinct([for rule in aws_s3_bucket_replication_configuration.this.rule : rule.priority])) == 2
    error_message = "two rules have one priority"
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.copy.policy).Statement : !contains(flatten([statement.Resource]), "*")])
    error_message = "the role may write anywhere"
  }
}

run "refuses_to_copy_to_nobody" {
  command = plan
  variables {
    copies = {}
  }
  expect_failures = [var.copies]
}
