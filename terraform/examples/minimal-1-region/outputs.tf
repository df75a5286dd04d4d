output "helm_values" {
  description = "Values of the chart."
  value       = module.origin.helm_values
}

output "sizing" {
  description = "The arithmetic."
  value       = module.sizing
}

output "dials" {
  description = "The dial of the region."
  value       = module.entry.dials
}
