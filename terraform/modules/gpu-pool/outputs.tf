output "scheduling" {
  description = "What a pod needs to be placed here; the keys are those of the chart's llmServer."
  value = {
    gpuResource  = "nvidia.com/gpu"
    nodeSelector = module.pool.labels
    tolerations  = [{ key = local.taint.key, operator = "Exists", effect = "NoSchedule" }]
  }
}
