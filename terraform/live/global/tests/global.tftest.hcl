mock_provider "aws" {
  source = "../../tests/mocks"
}

override_data {
  target = data.terraform_remote_state.region
  values = {
    outputs = {
      entry = {
        us-east-1 = {
          visitors_arn = "arn:lb/us", service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-1", bundles_uri = "s3://us/bundles", bucket = "us"
          key_arn      = "arn:aws:kms:us-east-1:111122223333:key/k", subject_key_arn = "arn:secret/us"
        }
        eu-west-1 = {
          visitors_arn = "arn:lb/eu", service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-2", bundles_uri = "s3://eu/bundles", bucket = "eu"
          key_arn      = "arn:aws:kms:eu-west-1:111122223333:key/k", subject_key_arn = "arn:secret/eu"
        }
        ap-southeast-1 = {
          visitors_arn = "arn:lb/ap", service_name = "com.amazonaws.vpce.ap-southeast-1.vpce-svc-3", bundles_uri = "s3://ap/bundles", bucket = "ap"
          key_arn      = "arn:aws:kms:ap-southeast-1:111122223333:key/k", subject_key_arn = "arn:secret/ap"
        }
      }
    }
  }
}

variables {
  name         = "attune-test"
  domain       = "attune.example.com"
  zone_id      = "Z1"
  state_bucket = "attune-test-state"
  state_region = "us-east-1"
  regions = {
    us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
    eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16" }
    ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16" }
  }
  pops = {
    dub = { region = "eu-west-1", origins = ["eu-west-1", "us-east-1"] }
    fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1", "ap-southeast-1"] }
    tyo = { region = "ap-northeast-1", origins = ["ap-southeast-1", "us-east-1"] }
  }
}

run "all_regions_are_open" {
  assert {
    condition     = alltrue([for dial in output.dials : dial == 100]) && length(output.dials) == 5
    error_message = "a region or a point of presence is closed or missing"
  }
  assert {
    condition     = output.pop_origins["fra"] == ["eu-west-1", "us-east-1", "ap-southeast-1"]
    error_message = "origins are not in their order"
  }
}

run "a_drained_region_has_dial_0_and_nobody_asks_it" {
  variables {
    regions = {
      us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16", dial = 0 }
      ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16" }
    }
  }
  assert {
    condition     = output.dials["eu-west-1"] == 0
    error_message = "a drained region still takes visitors"
  }
  assert {
    condition     = output.dials["us-east-1"] == 100 && output.dials["eu-central-1"] == 100
    error_message = "draining a region closed another"
  }
  assert {
    condition     = !anytrue([for origins in output.pop_origins : contains(origins, "eu-west-1")])
    error_message = "a point of presence still asks the drained region"
  }
  assert {
    condition     = output.pop_origins["fra"][0] == "us-east-1" && output.pop_origins["tyo"][0] == "ap-southeast-1"
    error_message = "a point of presence does not ask its next region"
  }
}

run "half_a_dial_is_half_the_visitors" {
  variables {
    regions = {
      us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16", dial = 50 }
      ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16" }
    }
  }
  assert {
    condition     = output.dials["eu-west-1"] == 50 && output.pop_origins["dub"][0] == "eu-west-1"
    error_message = "the dial did not arrive, or half a drain is taken for a whole one"
  }
}

run "refuses_to_drain_two_of_three" {
  command = plan
  variables {
    regions = {
      us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16", dial = 0 }
      ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16", dial = 0 }
    }
    pops = { fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1"] } }
  }
  expect_failures = [terraform_data.room]
}

run "drains_two_of_three_when_told" {
  variables {
    accept_overload = true
    regions = {
      us-east-1      = { short = "use1", cidr = "10.10.0.0/16", home = true }
      eu-west-1      = { short = "euw1", cidr = "10.20.0.0/16", dial = 0 }
      ap-southeast-1 = { short = "apse1", cidr = "10.30.0.0/16", dial = 0 }
    }
    pops = { fra = { region = "eu-central-1", origins = ["eu-west-1", "us-east-1"] } }
  }
  assert {
    condition     = output.pop_origins["fra"] == ["us-east-1"]
    error_message = "a drained region is still asked"
  }
}
