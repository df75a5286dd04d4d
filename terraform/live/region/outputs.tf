output "helm_values" {
  description = "Values of the chart, by region."
  value       = { for name, region in module.origin : name => region.helm_values }
}

output "platform" {
  description = "Variables of live/platform, by region."
  value       = { for name, region in module.origin : name => region.platform }
}

output "entry" {
  description = "What live/global reads, by region."
  value       = { for name, region in module.origin : name => region.entry }
}

output "by_hand" {
  description = "What operators set by hand, by region."
  value       = { for name, region in module.origin : name => region.by_hand }
}

output "sizing" {
  description = "The arithmetic."
  value       = module.sizing
}
