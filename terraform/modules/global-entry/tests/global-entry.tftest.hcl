mock_provider "aws" {}

variables {
  name             = "attune-test"
  domain           = "attune.example.com"
  zone_id          = "Z1"
  flow_logs_bucket = "attune-test-use1-lake"
  regions = {
    us-east-1 = { dial = 100, endpoints = { origin = { arn = "arn:lb/1", weight = 128 } } }
    eu-west-1 = { dial = 0, endpoints = { origin = { arn = "arn:lb/2", weight = 128 } } }
  }
}

run "a_drained_region_has_dial_0" {
  assert {
    condition     = aws_globalaccelerator_endpoint_group.region["eu-west-1"].traffic_dial_percentage == 0
    error_message = "a drained region still takes visitors"
  }
  assert {
    condition     = aws_globalaccelerator_endpoint_group.region["us-east-1"].traffic_dial_percentage == 100
    error_message = "draining one region moved another's dial"
  }
  assert {
    condition     = length(aws_globalaccelerator_endpoint_group.region["eu-west-1"].endpoint_configuration) == 1
    error_message = "a drained region lost its endpoints: it could not be opened again at once"
  }
}

run "refuses_to_drain_everything" {
  command = plan
  variables {
    regions = { us-east-1 = { dial = 0, endpoints = {} } }
  }
  expect_failures = [var.regions]
}

run "refuses_a_dial_above_100" {
  command = plan
  variables {
    regions = { us-east-1 = { dial = 120, endpoints = {} } }
  }
  expect_failures = [var.regions]
}
