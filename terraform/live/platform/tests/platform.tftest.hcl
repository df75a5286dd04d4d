mock_provider "kubectl" {}

variables {
  kubeconfig = "/nowhere"
}

run "namespaces_say_how_strict_they_are" {
  assert {
    condition     = yamldecode(kubectl_manifest.namespace["attune"].yaml_body).metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    error_message = "pods of Attune may be privileged"
  }
  assert {
    condition     = yamldecode(kubectl_manifest.inside["quota"].yaml_body).spec.hard["requests.nvidia.com/gpu"] == "3"
    error_message = "the quota does not count GPUs"
  }
}

run "secrets_have_places_and_no_values" {
  assert {
    condition     = alltrue([for secret in kubectl_manifest.secret : !anytrue([for key in keys(yamldecode(secret.yaml_body)) : contains(["data", "stringData"], key)])])
    error_message = "a value of a secret is in the configuration, and so in a state"
  }
}

run "binds_the_ways_in" {
  variables {
    target_groups = { pages = "arn:tg/pages", traces = "arn:tg/traces" }
  }
  assert {
    condition     = yamldecode(kubectl_manifest.target_group["pages"].yaml_body).spec.serviceRef == { name = "attune-edge", port = 8080 }
    error_message = "visitors are not led to edges"
  }
  assert {
    condition     = yamldecode(kubectl_manifest.target_group["traces"].yaml_body).metadata.namespace == "attune-observability"
    error_message = "traces are not led to the Collector"
  }
}

run "refuses_a_namespace_of_kubernetes" {
  command = plan
  variables {
    namespace = "kube-system"
  }
  expect_failures = [var.namespace]
}

run "refuses_a_quota_that_is_none" {
  command = plan
  variables {
    quota = { memory = "much" }
  }
  expect_failures = [var.quota]
}

run "refuses_an_unknown_way" {
  command = plan
  variables {
    target_groups = { admin = "arn:tg/admin" }
  }
  expect_failures = [var.target_groups]
}
