output "entry_arn" {
  description = "Load balancer of the visitors."
  value       = aws_lb.entry.arn
}

output "origins" {
  description = "Regions that this point of presence asks, in order."
  value       = [for origin in var.origins : origin.region]
}

output "config" {
  description = "The edge's configuration."
  value       = local.config
}
