output "helm_values" {
  description = "Values of the chart, by region."
  value       = { for name, region in module.origin : name => region.helm_values }
}

output "sizing" {
  description = "The arithmetic."
  value       = module.sizing
}

output "dials" {
  description = "The dial of each region and point of presence."
  value       = module.entry.dials
}

output "pop_origins" {
  description = "Regions that each point of presence asks, in order."
  value       = { for name, pop in module.pop : name => pop.origins }
}
