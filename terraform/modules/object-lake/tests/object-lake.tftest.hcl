mock_provider "aws" {
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::attune-test-use1-lake" }
  }
}

variables {
  name    = "attune-test-use1-lake"
  region  = "us-east-1"
  key_arn = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "is_closed_and_encrypted" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "the bucket can be opened to everybody"
  }
  assert {
    condition     = jsondecode(aws_s3_bucket_policy.this.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "the bucket answers in the clear"
  }
  assert {
    condition     = one([for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule : rule]).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    error_message = "objects are not encrypted with our key"
  }
}

run "is_hot_for_a_week_and_cold_for_ninety_days" {
  assert {
    condition = [for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      [tolist(rule.transition)[0].days, rule.expiration[0].days] if rule.id == "lake"
    ] == [[7, 97]]
    error_message = "the lake's life is not 7 days hot and 90 days cold"
  }
}

run "refuses_to_pay_for_what_is_gone" {
  command = plan
  variables {
    keep_days = 30
  }
  expect_failures = [var.keep_days]
}

run "refuses_a_name_that_is_none" {
  command = plan
  variables {
    name = "Attune_Lake"
  }
  expect_failures = [var.name]
}
