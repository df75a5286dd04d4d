output "mean_rps" {
  description = "Pages a second, mean of the day."
  value       = local.mean_rps
}

output "peak_rps" {
  description = "Pages a second at peak."
  value       = local.peak_rps
}

output "origin_rps" {
  description = "Pages a second at peak that origins assemble, all regions together."
  value       = local.origin_rps
}

output "region_rps" {
  description = "Pages a second that one region must carry while another is away."
  value       = local.region_rps
}

output "region_event_rps" {
  description = "Events a second that one region must take while another is away."
  value       = local.region_event
}

output "pop_rps" {
  description = "Pages a second that one point of presence must answer while another is away; 0 without any."
  value       = local.pop_rps
}

output "pop_instances" {
  description = "Edges of a point of presence, the same number in each zone."
  value       = local.pop_instances
}

output "nodes" {
  description = "Serving nodes of a region, the same number in each zone."
  value       = local.nodes
}

output "node_rps" {
  description = "Pages a second that the serving nodes of a region assemble at the chosen utilisation."
  value       = local.nodes * var.node_vcpus * var.utilisation * 1000 / (var.miss_cpu_ms * var.separation_factor)
}

output "brokers" {
  description = "Kafka brokers of a region."
  value       = local.brokers
}

output "cache_shards" {
  description = "Shards of a region's cache."
  value       = local.cache_shards
}
