mock_provider "aws" {}

variables {
  name    = "attune-test-use1"
  region  = "us-east-1"
  cidr    = "10.10.0.0/16"
  key_arn = "arn:aws:kms:us-east-1:111122223333:key/k"
}

run "spreads_over_three_zones" {
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(output.private_subnet_ids) == 3
    error_message = "a zone has no subnet or no way out of its own"
  }
  assert {
    condition     = alltrue([for zone, subnet in aws_subnet.private : subnet.availability_zone == zone])
    error_message = "a subnet is in another zone than its key says"
  }
  assert {
    condition = length(distinct(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.private : subnet.cidr_block],
      [for subnet in aws_subnet.data : subnet.cidr_block],
    ))) == 9
    error_message = "two subnets have the same addresses"
  }
  assert {
    condition     = aws_subnet.private["us-east-1a"].cidr_block == "10.10.32.0/19" && aws_subnet.data["us-east-1c"].cidr_block == "10.10.10.0/24"
    error_message = "the plan of addresses has moved: a running network cannot follow"
  }
  assert {
    condition     = alltrue([for one in [aws_vpc.this, aws_internet_gateway.this, aws_flow_log.this] : one.region == "us-east-1"])
    error_message = "an object is in the provider's region, not in its own"
  }
}

run "refuses_a_small_network" {
  command = plan
  variables {
    cidr = "10.10.0.0/20"
  }
  expect_failures = [var.cidr]
}

run "refuses_two_zones" {
  command = plan
  variables {
    zones = ["a", "b"]
  }
  expect_failures = [var.zones]
}

run "can_be_without_a_way_out" {
  variables {
    nat = false
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_route.nat) == 0 && length(output.private_subnet_ids) == 3
    error_message = "a network without a way out has one, or no subnets"
  }
}
