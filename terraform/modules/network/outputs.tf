output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "A private subnet for each zone, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "private_cidrs" {
  description = "Zone to the private range in it."
  value       = local.private
}

output "public_subnet_ids" {
  description = "A public subnet for each zone, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}
