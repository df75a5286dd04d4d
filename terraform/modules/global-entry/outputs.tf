output "domain" {
  description = "Name under which visitors ask."
  value       = aws_route53_record.this.name
}

output "dials" {
  description = "The dial of each region, as it was set."
  value       = { for region, group in aws_globalaccelerator_endpoint_group.region : region => group.traffic_dial_percentage }
}
