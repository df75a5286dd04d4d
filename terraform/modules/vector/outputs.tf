output "index_gib" {
  description = "Memory that an index takes at most."
  value       = terraform_data.fits.output
}

output "scheduling" {
  description = "What a pod needs to be placed here; the keys are those of a service of the chart."
  value = {
    nodeSelector = module.pool.labels
    tolerations  = [{ key = "attune.io/pool", operator = "Equal", value = "vector", effect = "NoSchedule" }]
  }
}
