mock_provider "aws" {
  source = "../../tests/mocks"
}

run "is_open_and_lives_without_a_zone" {
  assert {
    condition     = output.dials == { us-east-1 = 100 }
    error_message = "the one region is not open"
  }
  assert {
    condition     = output.sizing.nodes == 3 && output.sizing.brokers == 3 && output.sizing.cache_shards == 1
    error_message = "the smallest is larger than one of each in each zone"
  }
  assert {
    condition     = output.sizing.node_rps * 2 / 3 >= output.sizing.origin_rps
    error_message = "with a zone away the nodes cannot assemble every page"
  }
  assert {
    condition     = !contains(keys(output.helm_values), "llmServer")
    error_message = "the chart is told of GPUs that are not there"
  }
}
