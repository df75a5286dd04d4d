output "secrets" {
  description = "Secrets that wait for their values, with their keys."
  value       = var.secrets
}

output "priority_classes" {
  description = "Priority classes for pods of Attune."
  value       = keys(local.priorities)
}
