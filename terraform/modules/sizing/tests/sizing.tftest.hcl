variables {
  regions = 3
  pops    = 50
}

run "the_platform_at_full_size" {
  command = plan
  assert {
    condition     = floor(output.mean_rps) == 13888 && floor(output.peak_rps) == 41666
    error_message = "1.2 billion pages a day are 13,888 a second and three times that at peak"
  }
  assert {
    condition     = abs(output.origin_rps - 7500) < 1 && abs(output.region_rps - 3750) < 1
    error_message = "with 82 % of pages at the edge and one of three regions away each carries 3,750 pages a second"
  }
}

run "two_regions_carry_what_three_do" {
  command = plan
  assert {
    condition     = 2 * output.node_rps >= output.origin_rps
    error_message = "with one region away the other two cannot assemble what all do"
  }
  assert {
    condition     = output.nodes % 3 == 0 && output.brokers % 3 == 0
    error_message = "nodes or brokers are not the same number in each zone"
  }
  assert {
    condition     = output.pop_rps * 49 >= output.peak_rps
    error_message = "with one point of presence away the others cannot answer every page"
  }
}

run "one_region_lives_without_a_zone" {
  command = plan
  variables {
    regions = 1
  }
  assert {
    condition     = output.node_rps * 2 / 3 >= output.origin_rps
    error_message = "with a zone away the nodes of a single region cannot assemble every page"
  }
}

run "more_visitors_more_shards" {
  command = plan
  variables {
    visitors = 280e6
  }
  assert {
    condition     = output.cache_shards > 1 && output.cache_shards * 52 * 1073741824 * 0.75 >= 280e6 * 951
    error_message = "the shards do not hold every visitor's state"
  }
}

run "refuses_no_region" {
  command = plan
  variables {
    regions = 0
  }
  expect_failures = [var.regions]
}

run "refuses_to_plan_without_room" {
  command = plan
  variables {
    utilisation = 0.95
  }
  expect_failures = [var.utilisation]
}

run "refuses_a_hit_rate_above_one" {
  command = plan
  variables {
    edge_hit_rate = 1
  }
  expect_failures = [var.edge_hit_rate]
}

run "refuses_a_peak_below_the_mean" {
  command = plan
  variables {
    peak_factor = 0.5
  }
  expect_failures = [var.peak_factor]
}

run "more_events_more_shards_and_brokers" {
  command = plan
  variables {
    events_per_request = 20
  }
  assert {
    condition     = output.cache_shards * 64000 >= output.region_event_rps && output.brokers > 3 && output.brokers % 3 == 0
    error_message = "Redis or Kafka cannot take the events of a region while another is away"
  }
}
