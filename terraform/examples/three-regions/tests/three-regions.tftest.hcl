mock_provider "aws" {
  source = "../../tests/mocks"
}

run "carries_the_loss_of_a_region" {
  assert {
    condition     = 2 * output.sizing.node_rps >= output.sizing.origin_rps && abs(output.sizing.region_rps - 3750) < 1
    error_message = "two regions cannot carry what three do"
  }
  assert {
    condition     = alltrue([for dial in output.dials : dial == 100]) && length(output.dials) == 6
    error_message = "a region or point of presence is closed or missing"
  }
}

run "drains_a_region" {
  variables {
    drained = "ap-southeast-1"
  }
  assert {
    condition     = output.dials["ap-southeast-1"] == 0 && output.dials["us-east-1"] == 100
    error_message = "the drained region has a dial above 0, or another is closed"
  }
  assert {
    condition     = output.pop_origins["syd"] == ["us-east-1", "eu-west-1"]
    error_message = "a point of presence still asks the drained region"
  }
}

run "refuses_to_drain_what_is_not_there" {
  command = plan
  variables {
    drained = "mars-north-1"
  }
  expect_failures = [var.drained]
}
