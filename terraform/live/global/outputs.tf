output "domain" {
  description = "Name under which visitors ask."
  value       = module.entry.domain
}

output "dials" {
  description = "The dial of each region, as it was set."
  value       = module.entry.dials
}

output "pop_origins" {
  description = "Regions that each point of presence asks, in order."
  value       = { for name, pop in module.pop : name => pop.origins }
}
