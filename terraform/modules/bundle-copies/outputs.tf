output "receivers" {
  description = "Regions that receive models."
  value       = keys(var.copies)
}
