mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name             = "attune-test"
  region           = "eu-west-1"
  short            = "euw1"
  cidr             = "10.20.0.0/16"
  domain           = "attune.example.com"
  image_repository = "registry.example.com/attune"
  pop_regions      = ["eu-central-1", "eu-west-1"]
  sizing           = { nodes = 9, brokers = 6, cache_shards = 1 }
}

run "hands_the_chart_what_it_needs" {
  assert {
    condition = sort(keys(output.helm_values)) == sort([
      "defaults", "image", "kafka", "logKey", "networkPolicy", "redis", "region", "services", "subjectKey", "telemetry",
    ])
    error_message = "the keys of helm_values are not those that the chart knows"
  }
  assert {
    condition     = length(output.helm_values.kafka.brokers) == 3 && output.helm_values.kafka.tls.enabled && output.helm_values.kafka.sasl.mechanism == "SCRAM-SHA-512"
    error_message = "the chart would not log in to the brokers over TLS"
  }
  assert {
    condition     = output.helm_values.redis.url == "rediss://primary.example:6379"
    error_message = "the chart would speak to the cache in the clear"
  }
  assert {
    condition     = output.helm_values.services.retrieval.nodeSelector["attune.io/pool"] == "vector"
    error_message = "retrieval is not placed where the memory is"
  }
  assert {
    condition     = !strcontains(jsonencode(output.helm_values), "arn:aws:secretsmanager")
    error_message = "values name a secret of the cloud instead of one of the cluster"
  }
}

run "is_of_the_size_it_was_given" {
  assert {
    condition     = output.sizing.brokers == 6 && output.sizing.nodes == 9
    error_message = "the size did not arrive"
  }
  assert {
    condition     = aws_vpc_endpoint_service.origin.supported_regions == toset(["eu-west-1", "eu-central-1"])
    error_message = "a point of presence cannot reach the origin, or a region is named twice"
  }
}

run "takes_visitors_over_tls_only" {
  assert {
    condition     = aws_lb_listener.pages.protocol == "TLS" && aws_lb_listener.pages.port == 443 && aws_lb.pops.internal
    error_message = "pages can be had in the clear, or the origin from outside"
  }
  assert {
    condition     = !contains([for rule in aws_vpc_security_group_ingress_rule.ways : rule.from_port], 9101)
    error_message = "the admin port of edges is open to a load balancer"
  }
}

run "places_a_language_model_on_gpus" {
  variables {
    gpu = { instance_types = ["g6.xlarge"] }
  }
  assert {
    condition     = output.helm_values.llmServer.gpuResource == "nvidia.com/gpu" && output.helm_values.llmServer.nodeSelector["attune.io/pool"] == "gpu"
    error_message = "the chart would not place the language model on the GPU pool"
  }
}

run "refuses_brokers_that_are_no_multiple_of_three" {
  command = plan
  variables {
    sizing = { nodes = 9, brokers = 5, cache_shards = 1 }
  }
  expect_failures = [var.sizing]
}

run "refuses_a_zone_in_place_of_a_region" {
  command = plan
  variables {
    region = "eu-west-1a"
  }
  expect_failures = [var.region]
}

run "refuses_a_name_without_room" {
  command = plan
  variables {
    name = "attune-production-blue"
  }
  expect_failures = [var.name]
}
