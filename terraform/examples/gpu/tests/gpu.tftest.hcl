mock_provider "aws" {
  source = "../../tests/mocks"
}

run "hands_the_chart_a_place_for_a_language_model" {
  assert {
    condition     = output.helm_values.llmServer.gpuResource == "nvidia.com/gpu" && output.helm_values.llmServer.tolerations[0].effect == "NoSchedule"
    error_message = "the chart cannot place a language model"
  }
}
