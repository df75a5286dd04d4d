mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name             = "attune-test"
  domain           = "attune.example.com"
  zone_id          = "Z1"
  image_repository = "registry.example.com/attune"
  regions = {
    us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
    eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16" }
    ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16", dial = 0 }
  }
  pops = {
    fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1"] }
  }
}

run "makes_every_region_big_enough_for_the_loss_of_one" {
  assert {
    condition     = length(output.helm_values) == 3
    error_message = "a drained region was taken down: it could not come back"
  }
  assert {
    condition     = abs(output.sizing.region_rps - 3750) < 1 && 2 * output.sizing.node_rps >= output.sizing.origin_rps
    error_message = "two regions cannot carry what three do"
  }
  assert {
    condition     = alltrue([for region in module.origin : region.sizing.brokers % 3 == 0 && region.sizing.nodes == output.sizing.nodes])
    error_message = "a region is smaller than the arithmetic says"
  }
}

run "copies_models_from_home_and_nothing_back" {
  assert {
    condition     = toset(module.bundle_copies[0].receivers) == toset(["eu-west-1", "ap-southeast-1"])
    error_message = "a region does not receive the models"
  }
  assert {
    condition     = length(module.topic_copies) == 0
    error_message = "topics are copied before the brokers run"
  }
}

run "copies_item_updates_when_told" {
  variables {
    copy_topics = true
  }
  assert {
    condition     = toset(module.topic_copies[0].receivers) == toset(["eu-west-1", "ap-southeast-1"])
    error_message = "a region does not receive item updates"
  }
}

run "is_content_with_one_region" {
  variables {
    regions = { us-east-1 = { short = "use1", cidr = "10.10.0.0/16", home = true } }
    pops    = {}
  }
  assert {
    condition     = length(module.bundle_copies) == 0 && output.sizing.node_rps * 2 / 3 >= output.sizing.origin_rps
    error_message = "a single region copies to nobody and lives without a zone"
  }
}

run "refuses_two_homes" {
  command = plan
  variables {
    regions = {
      us-east-1 = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1 = { short = "euw1", cidr = "10.20.0.0/16", home = true }
    }
    pops = {}
  }
  expect_failures = [var.regions]
}

run "refuses_the_same_addresses_twice" {
  command = plan
  variables {
    regions = {
      us-east-1 = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1 = { short = "euw1", cidr = "10.10.0.0/16" }
    }
    pops = {}
  }
  expect_failures = [var.regions]
}

run "refuses_a_dial_below_0" {
  command = plan
  variables {
    regions = { us-east-1 = { short = "use1", cidr = "10.10.0.0/16", home = true, dial = -1 } }
    pops    = {}
  }
  expect_failures = [var.regions]
}

run "refuses_an_origin_that_is_not_there" {
  command = plan
  variables {
    pops = { fra = { region = "eu-central-1", origins = ["eu-west-1", "mars-north-1"] } }
  }
  expect_failures = [var.pops]
}

run "refuses_a_point_of_presence_that_no_drain_can_reach" {
  command = plan
  variables {
    pops = { fra = { region = "eu-central-1", origins = ["eu-west-1"] } }
  }
  expect_failures = [var.pops]
}
