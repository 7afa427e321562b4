output "role_arns" {
  description = "Role to its ARN."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}
