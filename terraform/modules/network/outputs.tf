output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its addresses."
  value       = aws_vpc.this.cidr_block
}

output "public_subnet_ids" {
  description = "Subnets with a way in, one a zone."
  value       = [for subnet in aws_subnet.public : subnet.id]
}

output "private_subnet_ids" {
  description = "Subnets of nodes and pods, one a zone."
  value       = [for subnet in aws_subnet.private : subnet.id]
}

output "data_subnet_ids" {
  description = "Subnets of brokers and caches, one a zone, without a way out."
  value       = [for subnet in aws_subnet.data : subnet.id]
}

output "data_cidrs" {
  description = "Addresses of those, from which internal load balancers speak."
  value       = [for subnet in aws_subnet.data : subnet.cidr_block]
}

output "public_cidrs" {
  description = "Addresses from which public load balancers speak."
  value       = [for subnet in aws_subnet.public : subnet.cidr_block]
}
